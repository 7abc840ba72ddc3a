"""Gate kind `sql`: a read-only query to the target's database, by the verifier's own login. Called through `kinds()`.

It is dialled from the worker's host by a process of its own (`engine.gates.sql_session`), which has no environment, a
bounded memory and an end: neither a hostile server nor a wrong query costs more than the check's time.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

from engine.domain import template
from engine.domain.databases import DatabaseProbe
from engine.domain.directory import Address, Directory
from engine.domain.errors import SignalboxError, Unavailable
from engine.domain.gate import Check, Facts, Json, Sample, SqlCheck
from engine.domain.ports import Measure, Probe
from engine.domain.runbook import Endpoint
from engine.domain.states import Verdict
from engine.gates import evidence
from engine.gates.condition import judge
from engine.gates.parsing import strict_json

SESSION = Path(__file__).with_name("sql_session.py")
GRACE_S = 5.0
MAX_ROW = 16 * 1024
MAX_ANSWER = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One query and where it goes. `params` are the values of `$2`, `$3`...; `$1` is not the author's."""

    address: Address
    ca: str | None
    name: str
    user: str
    password: str = field(repr=False)
    query: str
    params: tuple[str, ...]
    max_rows: int
    timeout_s: float
    max_row: int = MAX_ROW
    max_answer: int = MAX_ANSWER


class NoAnswer(Exception):
    """The database could not be reached, or did not answer in time; the message is for a person."""


class Wrong(Exception):
    """The question is refused, or its answer is too large; the message is for a person."""


class Ask(Protocol):
    """Who asks: the rows as JSON texts. Raises NoAnswer, Wrong."""

    def __call__(self, question: Question, /) -> tuple[str, ...]: ...


def in_a_process(question: Question) -> tuple[str, ...]:
    """See `Ask`."""
    if importlib.util.find_spec("psycopg") is None:
        raise Wrong("psycopg is not installed here: install signalbox with the extra `postgres`")
    path = os.pathsep.join(filter(None, sys.path))
    environment = {"PYTHONPATH": path, "HOME": "/nonexistent", "LANG": "C.UTF-8"}
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(SESSION)],  # -P: its folder's http.py is not the standard library's
            input=json.dumps(asdict(question)).encode(),
            capture_output=True,
            env=environment,
            timeout=question.timeout_s + GRACE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"no answer within {question.timeout_s:g} s") from None
    try:
        told = json.loads(done.stdout)
        how, what = told["how"], told["what"]
    except (ValueError, KeyError, TypeError):
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise Wrong(f"the session ended early ({done.returncode}): {evidence.text(''.join(last), 200)}") from None
    if how == "rows":
        return tuple(what)
    raise (NoAnswer if how == "no answer" else Wrong)(evidence.text(str(what), 300))


def build(directory: Directory, ask: Ask = in_a_process) -> Measure:
    """The kind, bound to the directory: a runbook names a target, never an address."""

    def measure(check: Check, facts: Facts, probe: Probe) -> Sample:
        """Ask once. No rows are INCONCLUSIVE; a database that does not answer is FAILED, a refused query ERROR."""
        if not isinstance(check, SqlCheck):
            return Sample(verdict=Verdict.ERROR, why="not an sql check")
        if not isinstance(probe, DatabaseProbe):
            return Sample(verdict=Verdict.ERROR, why="this verifier enters no database")
        seen: Json = {"query": check.query}
        try:
            query, params = bind(check.query, check.target, facts)
            rows = _rows(check, query, params, probe, directory, ask)
        except NoAnswer as error:
            return Sample(verdict=Verdict.FAILED, why=f"the database of {check.target}: {error}", seen=seen)
        except (Wrong, ValueError) as error:
            return Sample(verdict=Verdict.ERROR, why=f"the database of {check.target}: {error}", seen=seen)
        except SignalboxError as error:
            verdict = Verdict.INCONCLUSIVE if isinstance(error, Unavailable) else Verdict.ERROR
            return Sample(verdict=verdict, why=f"{error}. {error.remedy}".rstrip(". "), seen=seen)
        seen = {"query": check.query, "rows": evidence.bounded(rows)}
        if not rows:
            return Sample(verdict=Verdict.INCONCLUSIVE, why="the query gave no rows", seen=seen, no_data=True)
        return judge(check.expect, {"rows": rows}, seen)

    return measure


def _rows(
    check: SqlCheck, query: str, params: tuple[str, ...], probe: DatabaseProbe, directory: Directory, ask: Ask
) -> list[Json]:
    """The rows as objects; raises what `Ask` does, ValueError for a row that is no object, SignalboxError."""
    with probe.database(check.target, check.timeout_s + GRACE_S) as access:
        texts = ask(
            Question(
                address=directory.address(Endpoint(host=access.host, port=access.port)),
                ca=directory.site(access.host).database_ca,
                name=access.name,
                user=access.user,
                password=access.password,
                query=query,
                params=params,
                max_rows=check.max_rows,
                timeout_s=check.timeout_s,
            )
        )
    rows = [strict_json(text) for text in texts]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("it answered in a form that is not a row")
    return rows


def bind(query: str, target: str, facts: Facts) -> tuple[str, tuple[str, ...]]:
    """The query with `$2`, `$3`... for its placeholders, and their values: an input is a value and never SQL.

    Raises BadInput for a placeholder that is not known.
    """
    host = {"host": facts.hosts[target]} if target in facts.hosts else {}
    values: Mapping[str, Mapping[str, str]] = {"inputs": facts.inputs, "target": host}
    names = sorted(name for name in template.names(query) if name[1] in values.get(name[0], {}))
    numbers: dict[str, dict[str, str]] = {space: {} for space in values}
    for number, (space, name) in enumerate(names, start=2):
        numbers[space][name] = f"${number}"
    return template.fill(query, numbers), tuple(values[space][name] for space, name in names)
