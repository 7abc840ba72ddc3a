"""Replays the kind `http`: the answer to its GET."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import Field

from engine.domain.directory import Directory, Site
from engine.domain.gate import Facts, HttpCheck, Json, Sample
from engine.gates import http, web
from engine.gates.certificate import Certificate
from engine.proving.expression import tokens
from engine.proving.kinds.port import Answer, Kind, no_probe
from engine.runbooks.scalars import Edge


class CertificateAnswer(Edge):
    """What an https end proved itself with."""

    days_left: float = 90.0
    subject: str = "commonName=shop.example"
    issuer: str = "commonName=Example CA"
    names: list[str] = Field(default_factory=list)
    serial: Annotated[str, Field(pattern=r"^[0-9A-F]{1,40}$")] = "01"


class HttpAnswer(Answer):
    """One answer. `cert`: over https. `silent`: nobody answered, or nobody whose certificate verifies; `endless`: more
    than is read came back."""

    status: Annotated[int, Field(ge=100, le=599)] = 200
    ms: Annotated[int, Field(ge=0)] = 20
    body: Annotated[str, Field(max_length=20_000)] = ""
    cert: CertificateAnswer | None = None
    silent: bool = False
    endless: bool = False


class Http(Kind[HttpCheck, HttpAnswer]):
    """The GET is told."""

    answer = HttpAnswer

    def measure(self, check: HttpCheck, facts: Facts, answer: HttpAnswer) -> Sample:
        """See `Kind`."""

        def get(
            _url: str, _timeout_s: float, _params: Mapping[str, str] | None = None, _ca: str | None = None
        ) -> web.Answer:
            if answer.silent:
                raise web.NoAnswer("connection refused")
            if answer.endless:
                raise web.TooMuch(f"more than {web.MAX_BODY // 1024} KiB")
            return web.Answer(
                status=answer.status, body=answer.body.encode(), ms=answer.ms, certificate=_certificate(answer.cert)
            )

        host = facts.hosts.get(check.target, check.target)
        directory = Directory(sites={host: Site(name=host, http_url="http://recorded.invalid")})
        return http.build(directory, get)(check, facts, no_probe)

    def never(self, check: HttpCheck, good: HttpAnswer) -> Iterable[tuple[str, HttpAnswer]]:
        """A condition on JSON does not hold for a body that is none, nor one on a certificate for plain http."""
        yield "nobody answers", HttpAnswer(silent=True)
        yield "more than is read", HttpAnswer(endless=True)
        named = {token.word for token in tokens(check.expect) if token.kind == "name"}
        if "cert" in named:
            yield "no certificate", good.model_copy(update={"cert": None})
        if "json" in named:
            yield "a body that is no JSON", good.model_copy(update={"body": f"<html>{good.body}"})
            yield "no body", good.model_copy(update={"body": ""})

    def variables(self, check: HttpCheck, good: HttpAnswer) -> Mapping[str, Json]:  # noqa: ARG002 - the port has it
        """See `Kind`."""
        try:
            read: Json = json.loads(good.body)
        except ValueError:
            read = None
        cert: Json = good.cert.model_dump() if good.cert else None
        return {"status": good.status, "ms": good.ms, "body": good.body, "json": read, "cert": cert}


def _certificate(told: CertificateAnswer | None) -> Certificate | None:
    if told is None:
        return None
    return Certificate(**{**told.model_dump(), "names": tuple(told.names)})
