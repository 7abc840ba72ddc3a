"""What stands within checks: members, controls, commands, artefacts; and what they guarantee when all hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from engine.domain.gate import Check, CommandCheck, DiffCheck, LogCheck, PatternCheck, PolicyCheck, QuorumCheck


def guaranteed(checks: Iterable[Check], what: Callable[[Check], bool]) -> bool:
    """Whether some check of which `what` is true held, if all of these hold: a quorum may do without some of its."""
    for check in checks:
        if isinstance(check, QuorumCheck):
            if sum(not what(member) for member in check.checks) < check.need:
                return True
        elif what(check):
            return True
    return False


def asked(check: Check) -> tuple[Check, ...]:
    """The checks within a check: the members of a quorum, the control of any other."""
    if isinstance(check, QuorumCheck):
        return check.checks
    control: Check | None = getattr(check, "control", None)
    return () if control is None else (control,)


def measured(checks: Iterable[Check]) -> tuple[Check, ...]:
    """What is really measured of these, in order: the members of a quorum in its place."""
    found: list[Check] = []
    for check in checks:
        found += measured(check.checks) if isinstance(check, QuorumCheck) else (check,)
    return tuple(found)


def looked_into(check: Check) -> tuple[str, ...]:
    """The steps whose artefacts a check reads."""
    match check:
        case DiffCheck():
            return (check.of,) if check.against is None else (check.of, check.against)
        case PolicyCheck() if check.file is not None:
            return (check.of,)
        case _:
            return ()


def commands(check: Check) -> tuple[tuple[str, ...], ...]:
    """Every command line that a check runs on its target, its members and control apart."""
    match check:
        case CommandCheck() | LogCheck():
            return (check.run,)
        case PatternCheck():
            return tuple(fact.run for one in check.known for fact in one.facts)
        case _:
            return ()
