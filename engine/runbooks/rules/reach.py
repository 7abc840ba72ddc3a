"""Rules on the narrowest grant, and on where names really lead: L026, L028, L034."""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.domain import template
from engine.domain.directory import Address, Directory
from engine.domain.errors import Refused
from engine.domain.runbook import Access, Endpoint, ScriptStep, Tool
from engine.runbooks.book import Book, Finding
from engine.runbooks.positions import Place
from engine.runbooks.rule import Edit, Example, edit, rule
from engine.runbooks.rules.grants import too_wide


@rule(
    "L026",
    bad=edit("fix", "access: none", "access: none\n    network: [{host: mirror.example, port: 443}]"),
    good=Example(
        (Edit("fix", "access: none", "access: none\n    network: [{host: mirror.example, port: 443}]"),),
        files={"fix.sh": b"#!/bin/sh\ncurl -s https://mirror.example/fix.sh >/step/out/fix.sh\n"},
    ),
)
def grants_are_used(book: Book) -> Iterator[Finding]:
    """A grant is the narrowest that the step uses. A host is named by the step's arguments or scripts, or is where its
    login leads; a secret is its login's key or is named there as well; a login is used as `ssh target`. What nothing
    uses, somebody else might. A name that a script puts together out of pieces is not found: give it as an argument."""
    for at, step in book.scripts():
        if step.script.file not in book.files:
            continue  # L022 says so
        words = book.words(step)
        for key, what in _unused(book, step, words):
            yield Finding(("steps", at, *key), f"{step.id} {what}", "remove it, or name it where it is used")


def _unused(book: Book, step: ScriptStep, words: str) -> Iterator[tuple[Place, str]]:
    target = book.target(step)
    ends: set[tuple[str, int]] = set()
    for number, endpoint in enumerate(step.grant.network):
        if too_wide(endpoint, step):
            continue  # L006 says so
        filled = bool(template.names(endpoint.host))
        host = target.host if filled and target else endpoint.host
        by_login = target is not None and (host, endpoint.port) == (target.host, target.port)
        if (host, endpoint.port) in ends:
            yield ("network", number), f"may dial {host}:{endpoint.port} twice"
        elif not (by_login or _named(host, words) or (filled and "target.host" in words)):
            yield ("network", number), f"may dial {host}:{endpoint.port}, which none of its scripts names"
        ends.add((host, endpoint.port))
    for number, secret in enumerate(step.grant.secrets):
        if not (step.login and step.login.key == secret.name) and not _named(secret.name, words):
            yield ("secrets", number), f"may read the secret {secret.name}, which none of its scripts names"
    if step.login and step.tool is Tool.SCRIPT and not _named("target", words):
        yield ("login",), "may log in, and none of its scripts says `ssh target`"


def _named(word: str, words: str) -> bool:
    return re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w-])", words) is not None


@rule(
    "L028",
    bad=edit("diagnose", "user: reader", "user: operator"),
    good=edit("diagnose", "user: reader", "user: viewer"),
)
def readers_cannot_write(book: Book) -> Iterator[Finding]:
    """Who only looks at a target, or measures it, logs in there as somebody who cannot change it: not as root, and not
    as a user as whom a step changes it. `access: read` is the author's word; the user's rights are what holds."""
    writers = {(step.target, step.login.user): step.id for _, step in book.changes() if step.login}
    for at, step in book.scripts():
        if step.access is Access.READ and step.login:
            yield from _may_write(("steps", at, "login"), step.id, step.target, step.login.user, writers)
    for name, target in book.runbook.targets.items():
        place: Place = ("targets", name, "verifier", "user")
        if target.verifier.user == "root":
            yield from _may_write(place, f"the verifier of {name}", name, target.verifier.user, writers)


def _may_write(
    place: Place, who: str, target: str | None, user: str, writers: dict[tuple[str | None, str], str]
) -> Iterator[Finding]:
    writer = "root may do anything" if user == "root" else f"as whom {writers.get((target, user))} changes it"
    if user == "root" or (target, user) in writers:
        what = f"{who} only looks at {target} and logs in as {user}, {writer}"
        yield Finding(place, what.replace(", root may", ", who may"), "log in as a user that cannot change anything")


@rule(
    "L034",
    bad=Example(
        (Edit("fix", "access: none", "access: none\n    network: [{host: prod-old-name.example, port: 22}]"),),
        files={"fix.sh": b"#!/bin/sh\nssh prod-old-name.example -- restart-it\n"},
    ),
    good=Example(
        (Edit("fix", "access: none", "access: none\n    network: [{host: mirror.example, port: 443}]"),),
        files={"fix.sh": b"#!/bin/sh\ncurl -s https://mirror.example/fix.sh >/step/out/fix.sh\n"},
    ),
)
def names_lead_where_they_say(book: Book) -> Iterator[Finding]:
    """Where the file SIGNALBOX_SITES is known, names are followed to their addresses: no grant and no target leads to
    Signalbox itself (web, database, Vault, Slack, libvirt, Prometheus), no other name leads to a target's address, and
    no two targets are one machine."""
    directory = book.directory
    if directory is None:
        return
    targets: dict[Address, str] = {}
    for name, target in book.runbook.targets.items():
        endpoint = Endpoint(host=target.host, port=target.port)
        yield from _own_end(directory, endpoint, ("targets", name, "host"), f"target {name}")
        address = _address(directory, endpoint)
        other = targets.setdefault(address, name) if address else name
        if other != name and book.runbook.targets[other].host != target.host:
            what = f"{name} leads to the same machine as {other}"
            yield Finding(("targets", name, "host"), what, "give every target a machine of its own")
    hosts = {target.host for target in book.runbook.targets.values()}
    for at, step in book.scripts():
        for number, endpoint in enumerate(step.grant.network):
            if template.names(endpoint.host) or endpoint.host in hosts:
                continue
            place: Place = ("steps", at, "network", number, "host")
            yield from _own_end(directory, endpoint, place, step.id)
            address = _address(directory, endpoint)
            if address in targets:
                what = f"{step.id} may dial {endpoint.host}, which is another name of {targets[address]}"
                yield Finding(place, what, f"remove it, or make {targets[address]} the target of a step of its own")


def _address(directory: Directory, endpoint: Endpoint) -> Address | None:
    site = directory.sites.get(endpoint.host)
    return site.ports.get(endpoint.port) if site else None


def _own_end(directory: Directory, endpoint: Endpoint, place: Place, who: str) -> Iterator[Finding]:
    if _address(directory, endpoint) is None:
        named = Address(host=endpoint.host, port=endpoint.port)
        ours = named in directory.forbidden
    else:
        try:
            directory.address(endpoint)
        except Refused:
            ours = True
        else:
            ours = False
    if ours:
        yield Finding(place, f"{who}: {endpoint.host}:{endpoint.port} is Signalbox itself", "no step may reach it")
