"""Every way in which a run may travel through a runbook. Rules prove what they demand on each of them.

The line itself; for each change, the line up to it and then again from the gate before it (a retry); and for each
change with a way back, the line up to it and then its rollback line, which only a person's decision enters. What a run
does is one of these or begins like one: a halt ends it anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.domain.journey import Journey, Leg, LegKind, Role
from engine.domain.runbook import Access, ScriptStep

Path = tuple[Leg, ...]


def changes(leg: Leg) -> bool:
    """Whether this leg writes to its target."""
    return leg.kind is LegKind.ATTEMPT and isinstance(leg.step, ScriptStep) and leg.step.access is Access.WRITE


def every(journey: Journey) -> Iterator[Path]:
    """All paths, each from the first leg on."""
    line = journey.line
    yield line
    for at, leg in enumerate(line):
        if changes(leg):
            gate = journey.gate_before(leg.id)
            yield line[: at + 1] + line[line.index(gate) if gate else at :]
    for rollback in journey.rollbacks:
        begun = next(at for at, leg in enumerate(line) if leg.step.id == rollback[0].step.id)
        yield line[: begun + 1] + rollback


def unguarded(path: Path) -> Iterator[Leg]:
    """Changes on this path to which no gate leads: there is none, or another change lies between it and them.

    Two changes need none: undoing a rehearsal, which follows at once and is what the rehearsal is for, and a rollback,
    to which a person's decision leads.
    """
    guarded = False
    for leg in path:
        if leg.kind is LegKind.GATE:
            guarded = True
        elif changes(leg):
            if not guarded and leg.role is not Role.ROLLBACK:
                yield leg
            guarded = False


def unjudged(path: Path) -> Iterator[Leg]:
    """Changes on this path after which no gate of theirs stands before the next change or the end.

    A rehearsal is judged with its undoing, right after it; a change that a decision undoes or repeats was not judged
    to the end, and the change that follows it is.
    """
    for at, leg in enumerate(path):
        if changes(leg) and leg.role is not Role.REHEARSAL and not _ends_here(path, at) and not judged(path, at):
            yield leg


def judged(path: Path, at: int) -> bool:
    """Whether a gate of the leg at this place comes before anything else is changed."""
    for leg in path[at + 1 :]:
        if changes(leg):
            return False
        if leg.kind is LegKind.GATE and leg.of == path[at].id:
            return True
    return False


def _ends_here(path: Path, at: int) -> bool:
    """Whether a decision takes over right after this leg: it is undone, or tried again by way of an earlier leg."""
    following = path[at + 1] if at + 1 < len(path) else None
    if following is None:
        return False
    undone = following.role is Role.ROLLBACK and following.step.id == path[at].step.id
    return undone or following in path[: at + 1]
