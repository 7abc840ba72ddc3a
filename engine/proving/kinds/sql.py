"""Replays the kind `sql`: the rows that the database gave."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from engine.domain.databases import DatabaseAccess
from engine.domain.directory import Address, Directory, Site
from engine.domain.gate import Facts, Json, Sample, SqlCheck
from engine.domain.ports import ProbeAnswer
from engine.gates import sql
from engine.proving.kinds.port import Answer, Kind, no_probe

PORT = 5432


class SqlAnswer(Answer):
    """The rows, in their order. `trouble`: the database does not answer, or refuses the query."""

    rows: Annotated[list[dict[str, Any]], Field(max_length=200)] = []  # noqa: RUF012 - a field of pydantic, copied
    trouble: Literal["silent", "refused"] | None = None


class Sql(Kind[SqlCheck, SqlAnswer]):
    """The session is told."""

    answer = SqlAnswer

    def measure(self, check: SqlCheck, facts: Facts, answer: SqlAnswer) -> Sample:
        """See `Kind`."""

        def ask(question: sql.Question) -> tuple[str, ...]:
            if answer.trouble == "silent":
                raise sql.NoAnswer("connection refused")
            if answer.trouble == "refused":
                raise sql.Wrong("permission denied")
            if len(answer.rows) > question.max_rows:
                raise sql.Wrong(f"more than {question.max_rows} rows")
            return tuple(json.dumps(row) for row in answer.rows)

        host = facts.hosts.get(check.target, check.target)
        site = Site(name=host, ports={PORT: Address(host="recorded.invalid", port=PORT)})
        return sql.build(Directory(sites={host: site}), ask)(check, facts, _Verifier(host))

    def never(self, check: SqlCheck, good: SqlAnswer) -> Iterable[tuple[str, SqlAnswer]]:
        """No rows, more than are read, no answer."""
        yield "no rows", SqlAnswer()
        yield "more rows than are read", good.model_copy(update={"rows": good.rows * (check.max_rows + 1)})
        yield "the database is silent", SqlAnswer(trouble="silent")
        yield "the query is refused", SqlAnswer(trouble="refused")

    def variables(self, check: SqlCheck, good: SqlAnswer) -> Mapping[str, Json]:  # noqa: ARG002 - the port has it
        """See `Kind`."""
        return {"rows": list(good.rows)}


class _Verifier:
    """A probe that enters a database which nobody asks."""

    def __init__(self, host: str) -> None:
        self.host = host

    def __call__(self, target: str, argv: tuple[str, ...], timeout_s: float) -> ProbeAnswer:
        return no_probe(target, argv, timeout_s)

    @contextlib.contextmanager
    def database(self, target: str, timeout_s: float) -> Iterator[DatabaseAccess]:  # noqa: ARG002 - the port has it
        """See `DatabaseProbe`."""
        yield DatabaseAccess(host=self.host, port=PORT, name="recorded", user="nobody", password="")
