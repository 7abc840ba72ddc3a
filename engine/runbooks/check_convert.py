"""From the checks of a file to the engine's frozen ones. Called by `convert`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeVar

from engine.domain.gate import (
    Check,
    CommandCheck,
    Diagnosis,
    DiffCheck,
    DigestCheck,
    ExprCheck,
    Fact,
    HttpCheck,
    LogCheck,
    NoData,
    Parse,
    PatternCheck,
    PolicyCheck,
    PolicyRule,
    PromqlCheck,
    QuorumCheck,
    Sampling,
    SchemaCheck,
    SqlCheck,
)
from engine.runbooks import check_format as edge

READ_AT_MOST = "200000"
""" Bytes of a log file's end: what a verifier may print, with room for its last line. """

M = TypeVar("M", CommandCheck, HttpCheck, PromqlCheck, SqlCheck, LogCheck)


def counted(checks: Iterable[edge.AnyCheck]) -> tuple[Check, ...]:
    """Those that open and close the gate."""
    return tuple(_check(check) for check in checks if check.mode == "block")


def in_shadow(checks: Iterable[edge.AnyCheck]) -> tuple[Check, ...]:
    """Those that are only told."""
    return tuple(_check(check) for check in checks if check.mode == "shadow")


def _check(check: edge.AnyCheck) -> Check:
    match check:
        case edge.QuorumEdge():
            return QuorumCheck(id=check.id, need=check.need, checks=tuple(map(_measured, check.checks)))
        case edge.DigestEdge():
            return DigestCheck(id=check.id, of=check.of, equals=check.equals)
        case edge.ExprEdge():
            no_data = NoData(check.no_data)
            return ExprCheck(id=check.id, of=check.of, expect=check.expect, unless=check.unless, no_data=no_data)
        case edge.SchemaEdge():
            schema = check.schema_.model_dump(by_alias=True, exclude_unset=True)
            return SchemaCheck(id=check.id, of=check.of, schema=schema, no_data=NoData(check.no_data))
        case edge.DiffEdge():
            return DiffCheck(
                id=check.id,
                of=check.of,
                against=check.against,
                allow=tuple(check.allow),
                max_files=check.max_files,
                max_lines=check.max_lines,
                no_data=NoData(check.no_data),
            )
        case edge.PolicyEdge():
            rules = tuple(PolicyRule(id=rule.id, expect=rule.expect) for rule in check.rules)
            return PolicyCheck(id=check.id, of=check.of, file=check.file, rules=rules, no_data=NoData(check.no_data))
        case _:
            return _measured(check)


def _measured(check: edge.IndependentCheck) -> Check:
    match check:
        case edge.CommandEdge():
            return _command(check)
        case edge.HttpEdge():
            http = HttpCheck(
                id=check.id,
                target=check.target,
                path=check.path,
                expect=check.expect,
                timeout_s=check.timeout,
                sampling=_sampling(check.sampling),
            )
            return _controlled(http, check.control)
        case edge.PromqlEdge():
            return _promql(check)
        case edge.SqlEdge():
            sql = SqlCheck(
                id=check.id,
                target=check.target,
                query=check.query,
                expect=check.expect,
                max_rows=check.max_rows,
                timeout_s=check.timeout,
                sampling=_sampling(check.sampling),
                no_data=NoData(check.no_data),
            )
            return _controlled(sql, check.control)
        case edge.LogEdge():
            return _log(check)
        case edge.PatternEdge():
            return _pattern(check)


def _command(check: edge.CommandEdge) -> CommandCheck:
    command = CommandCheck(
        id=check.id,
        target=check.target,
        run=tuple(check.run),
        expect=check.expect,
        parse=Parse(check.parse),
        code=check.code,
        timeout_s=check.timeout,
        sampling=_sampling(check.sampling),
    )
    if check.control is None:
        return command
    control = check.control
    known = replace(
        command,
        run=tuple(control.run),
        parse=Parse(control.parse),
        code=control.code,
        expect=control.expect,
        sampling=Sampling(),
    )
    return replace(command, control=known)


def _promql(check: edge.PromqlEdge) -> PromqlCheck:
    promql = PromqlCheck(
        id=check.id,
        target=check.target,
        query=check.query,
        expect=check.expect,
        max_age_s=check.max_age,
        timeout_s=check.timeout,
        sampling=_sampling(check.sampling),
        for_s=check.for_ or 0,
        no_data=NoData(check.no_data),
    )
    return _controlled(promql, check.control)


def _log(check: edge.LogEdge) -> LogCheck:
    run = check.run if check.run is not None else ["tail", "-c", READ_AT_MOST, "--", check.file or ""]
    log = LogCheck(
        id=check.id,
        target=check.target,
        run=tuple(run),
        present=tuple(check.present),
        absent=tuple(check.absent),
        utc=check.utc,
        within_s=check.within,
        for_s=check.for_ or 0,
        timeout_s=check.timeout,
        sampling=_sampling(check.sampling),
        no_data=NoData(check.no_data),
    )
    if check.control is None:
        return log
    known = replace(log, present=tuple(check.control.present), absent=(), sampling=Sampling())
    return replace(log, control=known)


def _pattern(check: edge.PatternEdge) -> PatternCheck:
    known = tuple(
        Diagnosis(
            cause=cause,
            facts=tuple(
                Fact(name=name, run=tuple(fact.run), parse=Parse(fact.parse), code=fact.code)
                for name, fact in diagnosis.facts.items()
            ),
            expect=diagnosis.expect,
        )
        for cause, diagnosis in check.causes.items()
    )
    return PatternCheck(
        id=check.id,
        target=check.target,
        of=check.of,
        cause=check.cause,
        known=known,
        timeout_s=check.timeout,
        sampling=_sampling(check.sampling),
        no_data=NoData(check.no_data),
    )


def _controlled(check: M, control: edge.HttpControlEdge | edge.QueryControlEdge | None) -> M:
    """The control is the same check with another question, whose answer is known."""
    if control is None:
        return check
    known: dict[str, Any] = {**control.model_dump(), "sampling": Sampling()}
    if isinstance(check, PromqlCheck):
        known["for_s"] = 0
    return replace(check, control=replace(check, **known))


def _sampling(sampling: edge.SamplingEdge | None) -> Sampling:
    return Sampling(count=sampling.count, every_s=sampling.every) if sampling else Sampling()
