"""Rules on what a step may reach and know: L005, L006, L015, L016, L017, L038."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from engine.domain import template
from engine.domain.runbook import Access, Endpoint, ScriptStep, SecretRef, Target, Tool
from engine.runbooks.book import Book, Finding
from engine.runbooks.positions import Place
from engine.runbooks.rule import Edit, Example, edit, edits, rule

_HOST = re.compile(r"[a-z][a-z0-9-]*(\.[a-z0-9][a-z0-9-]*)*")
_TARGET_HOST = re.compile(r"\{\{\s*target\.host\s*\}\}")
_OWN = frozenset({"localhost", "metadata", "instance-data"})
""" Names by which a host or a cloud speaks of itself. """


@rule(
    "L005",
    bad=edit("diagnose", "production/reader", "production/operator"),
    good=edit("diagnose", "production/reader", "production/looks-only"),
)
def secrets_are_not_shared(book: Book) -> Iterator[Finding]:
    """One secret serves one target and one purpose: what may read staging does not open production, and what may
    read a target does not write it."""
    first: dict[str, tuple[str | None, Access, str]] = {}
    for place, step, secret in _secrets(book):
        target, access, other = first.setdefault(secret.path, (step.target, step.access, step.id))
        if (target, access) != (step.target, step.access):
            what = f"{secret.path} serves both {other} and {step.id}, which have different targets or access"
            yield Finding(place, what, "use a secret of its own for each")


@rule(
    "L016",
    bad=edit("", "production/verifier", "production/operator"),
    good=edit("", "production/verifier", "production/measurer"),
)
def verifiers_are_separate(book: Book) -> Iterator[Finding]:
    """Who measures is somebody else than who works: another secret than any step's, another user on the target
    than the steps that log in there, and no key for two targets."""
    of_steps = {secret.path: step.id for _, step, secret in _secrets(book)}
    seen: dict[str, str] = {}
    for name, target in book.runbook.targets.items():
        place: Place = ("targets", name, "verifier")
        for inner, secret in _of_verifier(target):
            if secret.path in of_steps:
                what = f"the verifier of {name} has the secret of step {of_steps[secret.path]}"
                yield Finding((*place, *inner, "path"), what, "give the verifier a key of its own")
            other = seen.setdefault(secret.path, name)
            if other != name:
                what = f"{name} and {other} have one verifier's key"
                yield Finding((*place, *inner, "path"), what, "give each its own")
        for _, step in book.scripts():
            if step.target == name and step.login and step.login.user == target.verifier.user:
                what = f"step {step.id} logs in to {name} as the verifier {target.verifier.user}"
                yield Finding((*place, "user"), what, "measure as a user that no step works as")


def _of_verifier(target: Target) -> Iterator[tuple[Place, SecretRef]]:
    for secret in target.verifier_grant.secrets:
        yield ("secret",), secret
    for secret in target.database.grant.secrets if target.database else ():
        yield ("database", "secret"), secret


def _secrets(book: Book) -> Iterator[tuple[Place, ScriptStep, SecretRef]]:
    for at, step in book.scripts():
        for number, secret in enumerate(step.grant.secrets):
            yield ("steps", at, "secrets", number, "path"), step, secret


@rule(
    "L006",
    bad=edit("diagnose", "network: [{", 'network: [{host: "*", port: 22}, {'),
    good=edit("diagnose", 'host: "{{ target.host }}"', "host: production.example"),
)
def networks_are_narrow(book: Book) -> Iterator[Finding]:
    """A step dials hosts by the names of the directory, one by one: no wildcard, no address, no range, not this
    machine, no cloud's metadata service, and never a name that an alert chose."""
    for place, step, endpoint in _endpoints(book):
        reason = too_wide(endpoint, step)
        if reason:
            yield Finding(place, f"{step.id} may dial {endpoint.host}: {reason}", "name one host of the directory")


def too_wide(endpoint: Endpoint, step: ScriptStep) -> str | None:
    """Why an endpoint is not one host of the directory, if it is not."""
    host = endpoint.host
    if _TARGET_HOST.fullmatch(host):
        return None if step.target else "the step has no target"
    if template.names(host) or "{{" in host:
        return "only {{ target.host }} may be filled in here"
    try:
        ipaddress.ip_network(host, strict=False)
    except ValueError:
        pass
    else:
        return "an address or a range, not a name"
    if not _HOST.fullmatch(host):
        return "not the name of one host"
    if host.split(".")[0] in _OWN or host.endswith(".localhost"):
        return "a name by which a machine speaks of itself"
    return None


def _endpoints(book: Book) -> Iterator[tuple[Place, ScriptStep, Endpoint]]:
    for at, step in book.scripts():
        for number, endpoint in enumerate(step.grant.network):
            yield ("steps", at, "network", number, "host"), step, endpoint


@rule(
    "L017",
    bad=Example(
        (Edit("fix", "access: none", "access: none\n    network: [{host: production.example, port: 22}]"),),
        files={"fix.sh": b"#!/bin/sh\nssh production.example -- restart-it\n"},
    ),
    good=Example(
        (Edit("fix", "access: none", "access: none\n    network: [{host: mirror.example, port: 443}]"),),
        files={"fix.sh": b"#!/bin/sh\ncurl https://mirror.example/fix.tar\n"},
    ),
)
def steps_stay_at_their_target(book: Book) -> Iterator[Finding]:
    """A step dials no target but its own, and there only the port of its login: not the other environment, and
    not what the gates look at (metrics, health pages)."""
    owners = {target.host: target for target in book.runbook.targets.values()}
    for place, step, endpoint in _endpoints(book):
        own = book.target(step)
        host = own.host if own and _TARGET_HOST.fullmatch(endpoint.host) else endpoint.host
        owner = own if own and own.host == host else owners.get(host)
        if owner is None:
            continue
        if own is None or owner.name != own.name:
            mend = f"remove it, or make {owner.name} the target of a step of its own"
            yield Finding(place, f"{step.id} may dial {owner.name}, which is not its target", mend)
        elif endpoint.port != own.port:
            what = f"{step.id} may dial port {endpoint.port} of {own.name}, which gates may measure"
            yield Finding(place, what, f"leave port {own.port} only")


@rule(
    "L015",
    bad=edit("diagnose", "    login: {user: reader, key: ssh}\n", ""),
    good=edits(("diagnose", "key: ssh}", "key: reader_key}"), ("diagnose", "name: ssh", "name: reader_key")),
)
def logins_are_complete(book: Book) -> Iterator[Finding]:
    """Who reads or writes a target says how it gets in: a user, the key among its secrets, the way in its
    network. Who has no access has no target and no login. Terraform's providers log in by themselves."""
    for at, step in book.scripts():
        for name, what, mend in _login_faults(book, step):
            yield Finding(("steps", at, name), what, mend)


def _login_faults(book: Book, step: ScriptStep) -> Iterator[tuple[str, str, str]]:
    if step.access is Access.NONE:
        if step.target or step.login:
            yield "access", f"{step.id} has access: none but a target or a login", "remove them, or say read or write"
        return
    if step.target is None:
        yield "access", f"{step.id} may {step.access} but has no target", "add `target:`"
    if step.tool is Tool.TERRAFORM:
        return
    if step.login is None:
        yield "access", f"{step.id} may {step.access} but cannot log in", "add `login: {user: ..., key: ...}`"
        return
    names = {secret.name: secret for secret in step.grant.secrets}
    secret = names.get(step.login.key)
    if secret is None:
        mend = f"use one of {', '.join(names) or 'its secrets; there are none yet'}"
        yield "login", f"{step.id} logs in with {step.login.key}, which is none of its secrets", mend
    elif len(secret.fields) != 1:
        yield "login", f"the key {secret.name} has {len(secret.fields)} fields", "name the one field with the key"
    target = book.target(step)
    if target and not any(_leads_to(endpoint, target.host, target.port) for endpoint in step.grant.network):
        mend = f"add `network: [{{host: '{{{{ target.host }}}}', port: {target.port}}}]`"
        yield "login", f"{step.id} logs in to {target.name} but may not dial it", mend


def _leads_to(endpoint: Endpoint, host: str, port: int) -> bool:
    return endpoint.port == port and (endpoint.host == host or _TARGET_HOST.fullmatch(endpoint.host) is not None)


@rule(
    "L038",
    bad=edit("diagnose", "timeout: 2m", "timeout: 2m\n    limits: {disk_mb: 384}"),
    good=edit("diagnose", "timeout: 2m", "timeout: 2m\n    limits: {disk_mb: 64}"),
)
def limits_can_be_met(book: Book) -> Iterator[Finding]:
    """A limit that another one hides would never be met: the disk lies in the memory, and a share of the
    processors is of those that the step has."""
    for at, step in book.scripts():
        limits = step.limits
        if limits.disk_mb >= step.memory_mb:
            what = f"step {step.id} may write {limits.disk_mb} MB, and its disk lies in {step.memory_mb} MB of memory"
            yield Finding(("steps", at, "limits", "disk_mb"), what, "lower disk_mb, or raise memory_mb")
        if limits.cpu_percent > 100 * limits.vcpus:
            what = f"step {step.id} has {limits.vcpus} processors, and may use {limits.cpu_percent} % of one"
            yield Finding(("steps", at, "limits", "cpu_percent"), what, "lower cpu_percent, or raise vcpus")
