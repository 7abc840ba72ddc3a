"""Gate kind `http`: a GET from the worker's host to a site's configured URL. Called through `kinds()`.

Over https the certificate is always verified: its chain to the site's `http_ca` (without one, to what the system
trusts), its time, and that it is for the host of the URL.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from urllib.parse import quote

from engine.domain.directory import Directory, Site
from engine.domain.errors import SignalboxError
from engine.domain.gate import Check, Facts, HttpCheck, Json, Sample
from engine.domain.ports import Measure, Probe
from engine.domain.states import Verdict
from engine.gates import evidence, web
from engine.gates.condition import judge
from engine.gates.filling import fill


def build(directory: Directory, get: web.Get = web.get) -> Measure:
    """The kind, bound to the directory: a runbook names a target, never an address. `get`: who asks."""

    def measure(check: Check, facts: Facts, probe: Probe) -> Sample:  # noqa: ARG001 - the port has it
        """Ask once. A service that does not answer is FAILED: that is a measurement of the service. So is one whose
        certificate does not verify: whoever answers there, no answer of his is read."""
        if not isinstance(check, HttpCheck):
            return Sample(verdict=Verdict.ERROR, why="not an http check")
        try:
            site = directory.site(facts.hosts.get(check.target, check.target))
            url = _url(check, facts, site)
        except SignalboxError as error:
            return _not_asked(error)
        try:
            answer = get(url, check.timeout_s, None, site.http_ca)
        except SignalboxError as error:
            return _not_asked(error)
        except web.NoAnswer as error:
            return Sample(verdict=Verdict.FAILED, why=f"{check.path} of {check.target}: {error}", seen={"url": url})
        except web.TooMuch as error:
            return Sample(verdict=Verdict.ERROR, why=f"{check.path} of {check.target}: {error}", seen={"url": url})
        return _judge(check, url, answer)

    return measure


def _not_asked(error: SignalboxError) -> Sample:
    return Sample(verdict=Verdict.ERROR, why=f"{error}. {error.remedy}".rstrip(". "))


def _url(check: HttpCheck, facts: Facts, site: Site) -> str:
    path = fill(check.path, check.target, facts, lambda value: quote(value, safe=""))
    if site.http_url is None:
        raise SignalboxError(f"site {site.name} has no http_url", "add it to the file SIGNALBOX_SITES")
    if not path.startswith("/"):
        raise SignalboxError(f"path {path!r} does not begin with /")
    return site.http_url.rstrip("/") + path


def _judge(check: HttpCheck, url: str, answer: web.Answer) -> Sample:
    body = answer.body.decode("utf-8", "replace")
    seen: dict[str, Json] = {"url": url, "status": answer.status, "ms": answer.ms, "body": evidence.text(body)}
    variables: dict[str, Json] = {"status": answer.status, "ms": answer.ms, "body": body, "json": _json(body)}
    shown = answer.certificate
    cert: Json = {**asdict(shown), "names": list(shown.names)} if shown else None
    return judge(check.expect, {**variables, "cert": cert}, {**seen, "cert": cert} if shown else seen)


def _json(body: str) -> Json:
    """The body as JSON; null when it is none, so that a condition on a field of it cannot hold."""
    try:
        value: Json = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value
