"""Gate kind `http`: a GET from the worker's host to a site's configured URL. Called through `kinds()`."""

from __future__ import annotations

import json
from urllib.parse import quote

from engine.domain.directory import Directory
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
        """Ask once. A service that does not answer is FAILED: that is a measurement of the service."""
        if not isinstance(check, HttpCheck):
            return Sample(verdict=Verdict.ERROR, why="not an http check")
        try:
            url = _url(check, facts, directory)
        except SignalboxError as error:
            return Sample(verdict=Verdict.ERROR, why=f"{error}. {error.remedy}".rstrip(". "))
        try:
            answer = get(url, check.timeout_s)
        except web.NoAnswer as error:
            return Sample(verdict=Verdict.FAILED, why=f"{check.path} of {check.target}: {error}", seen={"url": url})
        except web.TooMuch as error:
            return Sample(verdict=Verdict.ERROR, why=f"{check.path} of {check.target}: {error}", seen={"url": url})
        return _judge(check, url, answer)

    return measure


def _url(check: HttpCheck, facts: Facts, directory: Directory) -> str:
    site = directory.site(facts.hosts.get(check.target, check.target))
    path = fill(check.path, check.target, facts, lambda value: quote(value, safe=""))
    if site.http_url is None:
        raise SignalboxError(f"site {site.name} has no http_url", "add it to the file SIGNALBOX_SITES")
    if not path.startswith("/"):
        raise SignalboxError(f"path {path!r} does not begin with /")
    return site.http_url.rstrip("/") + path


def _judge(check: HttpCheck, url: str, answer: web.Answer) -> Sample:
    body = answer.body.decode("utf-8", "replace")
    seen: Json = {"url": url, "status": answer.status, "ms": answer.ms, "body": evidence.text(body)}
    variables: dict[str, Json] = {"status": answer.status, "ms": answer.ms, "body": body, "json": _json(body)}
    return judge(check.expect, variables, seen)


def _json(body: str) -> Json:
    """The body as JSON; null when it is none, so that a condition on a field of it cannot hold."""
    try:
        value: Json = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value
