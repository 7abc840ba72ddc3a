"""The life of a run, as one table.

Read top to bottom: every state with its meaning, then every move between them with the sentence that justifies it.
`engine.coordination.machine` applies these moves and nothing but these; the database holds the same table, and every
event names one of its rows by foreign key.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from engine.domain.errors import IllegalMove


class RunState(enum.StrEnum):
    """Where a run is."""

    NEW = "new"
    """ Not there yet: only the first move starts here. """

    QUEUED = "queued"
    """ Between two legs; waits for a worker (or for a target that another run holds). """

    RUNNING = "running"
    """ An attempt is under way in its own VM. """

    JUDGING = "judging"
    """ A gate is measuring. """

    AWAITING_APPROVAL = "awaiting_approval"
    """ The next leg changes a protected target, or an agent asks for one call: a person must say yes to exactly that. """

    HALTED = "halted"
    """ Nothing moves until a person decides. """

    COMPLETED = "completed"
    """ Every gate held. Final. """

    ROLLED_BACK = "rolled_back"
    """ A person had the change undone, and the gate after it held. Final. """

    TAKEN_OVER = "taken_over"
    """ A person works by hand; automation ended for this run. Final. """

    ABANDONED = "abandoned"
    """ A person ended the run. Final. """


class RunEvent(enum.StrEnum):
    """What can happen to a run."""

    OPENED = "run_opened"
    LEG_PASSED = "leg_passed"
    ATTEMPT_STARTED = "attempt_started"
    ATTEMPT_FINISHED = "attempt_finished"
    ATTEMPT_FAILED = "attempt_failed"
    ATTEMPT_LOST = "attempt_lost"
    ATTEMPT_UNKNOWN = "attempt_unknown"
    JUDGING_STARTED = "judging_started"
    JUDGING_LOST = "judging_lost"
    GATE_HELD = "gate_held"
    GATE_FAILED = "gate_failed"
    GATE_INCONCLUSIVE = "gate_inconclusive"
    GATE_ERRORED = "gate_errored"
    GATE_STALE = "gate_stale"
    APPROVAL_REQUESTED = "approval_requested"
    CALL_ASKED = "call_asked"
    APPROVED = "approved"
    REJECTED = "rejected"
    APPROVAL_EXPIRED = "approval_expired"
    APPROVAL_VOIDED = "approval_voided"
    SOURCE_RESOLVED = "source_resolved"
    START_REFUSED = "start_refused"
    DEADLINE_PASSED = "deadline_passed"
    RETRY_DECIDED = "retry_decided"
    ROLLBACK_DECIDED = "rollback_decided"
    TAKE_OVER_DECIDED = "take_over_decided"
    ABANDON_DECIDED = "abandon_decided"
    COMPLETED = "run_completed"
    ROLLED_BACK = "run_rolled_back"


S, E = RunState, RunEvent

FINAL = frozenset({S.COMPLETED, S.ROLLED_BACK, S.TAKEN_OVER, S.ABANDONED})
WAITS_FOR_A_PERSON = frozenset({S.AWAITING_APPROVAL, S.HALTED})
LOST_WITH_ITS_WORKER = frozenset({S.RUNNING, S.JUDGING})
DECIDED_BY_A_PERSON = frozenset(
    {E.APPROVED, E.REJECTED, E.RETRY_DECIDED, E.ROLLBACK_DECIDED, E.TAKE_OVER_DECIDED, E.ABANDON_DECIDED}
)


@dataclass(frozen=True, slots=True)
class Move:
    """One permitted move, and why it is permitted."""

    source: RunState
    event: RunEvent
    target: RunState
    because: str


# fmt: off
MOVES: tuple[Move, ...] = (
    Move(S.NEW, E.OPENED, S.QUEUED, "An alert or a person chose a runbook for the incident."),
    Move(S.QUEUED, E.LEG_PASSED, S.QUEUED, "A leg that needs no VM and no gate (receive) is behind the run."),
    Move(S.QUEUED, E.ATTEMPT_STARTED, S.RUNNING, "A worker drives the run, and all that the leg demands is there."),
    Move(S.RUNNING, E.ATTEMPT_FINISHED, S.QUEUED, "The attempt ended; its own word for success counts for nothing."),
    Move(S.RUNNING, E.ATTEMPT_FAILED, S.HALTED, "The attempt itself says that it did not work, or it never began."),
    Move(S.RUNNING, E.ATTEMPT_LOST, S.QUEUED, "Its worker died; the step is declared idempotent, so it may run again."),
    Move(S.RUNNING, E.ATTEMPT_UNKNOWN, S.HALTED, "Nobody knows what it did: so nobody may assume it."),
    Move(S.RUNNING, E.CALL_ASKED, S.AWAITING_APPROVAL, "An agent asks for one call that takes a yes; its VM is dead."),
    Move(S.QUEUED, E.JUDGING_STARTED, S.JUDGING, "The attempt before it ended; its VM is dead; now it is measured."),
    Move(S.JUDGING, E.JUDGING_LOST, S.QUEUED, "The worker died while measuring: samples are discarded, measured anew."),
    Move(S.JUDGING, E.GATE_HELD, S.QUEUED, "The evidence met the gate. The only way onward past a gate."),
    Move(S.JUDGING, E.GATE_FAILED, S.HALTED, "The evidence did not meet the gate."),
    Move(S.JUDGING, E.GATE_INCONCLUSIVE, S.HALTED, "Too little was seen: no verdict is not a pass."),
    Move(S.JUDGING, E.GATE_ERRORED, S.HALTED, "The measurement itself broke: no verdict is not a pass."),
    Move(S.QUEUED, E.GATE_STALE, S.QUEUED, "The held gate before a change is older than it may be: back to measure it."),
    Move(S.QUEUED, E.APPROVAL_REQUESTED, S.AWAITING_APPROVAL, "The next leg asks for a person's yes to its order."),
    Move(S.AWAITING_APPROVAL, E.APPROVED, S.QUEUED, "A person said yes to exactly this order, or call."),
    Move(S.AWAITING_APPROVAL, E.REJECTED, S.HALTED, "A person said no."),
    Move(S.AWAITING_APPROVAL, E.APPROVAL_EXPIRED, S.HALTED, "Nobody said yes in time, and silence is not a yes."),
    Move(S.AWAITING_APPROVAL, E.APPROVAL_VOIDED, S.HALTED, "What was shown is no longer what would be applied."),
    Move(S.QUEUED, E.APPROVAL_VOIDED, S.HALTED, "What was approved is no longer what would be applied."),
    Move(S.QUEUED, E.SOURCE_RESOLVED, S.HALTED, "The source says that it is over: do not change what is well."),
    Move(S.QUEUED, E.START_REFUSED, S.HALTED, "A safety rule forbids the next leg, or what it needs is missing."),
    Move(S.QUEUED, E.DEADLINE_PASSED, S.HALTED, "The whole run took longer than its runbook allows."),
    Move(S.HALTED, E.RETRY_DECIDED, S.QUEUED, "A named person asked for another try; every gate is measured again."),
    Move(S.HALTED, E.ROLLBACK_DECIDED, S.QUEUED, "A named person asked for the declared, rehearsed rollback."),
    Move(S.HALTED, E.TAKE_OVER_DECIDED, S.TAKEN_OVER, "A named person works by hand from here."),
    Move(S.AWAITING_APPROVAL, E.TAKE_OVER_DECIDED, S.TAKEN_OVER, "A named person works by hand from here."),
    Move(S.HALTED, E.ABANDON_DECIDED, S.ABANDONED, "A named person ended the run."),
    Move(S.AWAITING_APPROVAL, E.ABANDON_DECIDED, S.ABANDONED, "A named person ended the run."),
    Move(S.QUEUED, E.ABANDON_DECIDED, S.ABANDONED, "A named person ended the run."),
    Move(S.RUNNING, E.ABANDON_DECIDED, S.ABANDONED, "A named person ended the run; its VM dies, the rest is evidence."),
    Move(S.JUDGING, E.ABANDON_DECIDED, S.ABANDONED, "A named person ended the run; the measurement is evidence only."),
    Move(S.QUEUED, E.COMPLETED, S.COMPLETED, "Every leg is behind the run and every gate held."),
    Move(S.QUEUED, E.ROLLED_BACK, S.ROLLED_BACK, "The change was undone and the gate after the rollback held."),
)
# fmt: on

_BY_SOURCE_AND_EVENT = {(move.source, move.event): move for move in MOVES}
if len(_BY_SOURCE_AND_EVENT) != len(MOVES):
    raise AssertionError("a state and an event must name one move")


def move(source: RunState, event: RunEvent) -> Move:
    """Look up the one move that `event` permits from `source`; raises `IllegalMove`."""
    try:
        return _BY_SOURCE_AND_EVENT[source, event]
    except KeyError:
        raise IllegalMove(f"a {source} run cannot take {event}") from None


class AttemptState(enum.StrEnum):
    """Where one try of a step is. Finished never means passed: the gate says that.

    Paused: an agent ended its try at a call that a person is asked about; after a yes another one goes on from there.
    """

    STARTED = "started"
    FINISHED = "finished"
    FAILED = "failed"
    PAUSED = "paused"
    LOST = "lost"
    UNKNOWN = "unknown"


class Verdict(enum.StrEnum):
    """What a gate, or one check of it, found. Only HELD opens."""

    HELD = "held"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


EVENT_OF_VERDICT = {
    Verdict.HELD: E.GATE_HELD,
    Verdict.FAILED: E.GATE_FAILED,
    Verdict.INCONCLUSIVE: E.GATE_INCONCLUSIVE,
    Verdict.ERROR: E.GATE_ERRORED,
}


class Decision(enum.StrEnum):
    """What a named person chose for a halted run."""

    RETRY = "retry"
    ROLL_BACK = "roll_back"
    TAKE_OVER = "take_over"
    ABANDON = "abandon"


EVENT_OF_DECISION = {
    Decision.RETRY: E.RETRY_DECIDED,
    Decision.ROLL_BACK: E.ROLLBACK_DECIDED,
    Decision.TAKE_OVER: E.TAKE_OVER_DECIDED,
    Decision.ABANDON: E.ABANDON_DECIDED,
}


class Choice(enum.StrEnum):
    """Everything that a named person can choose about a run, as it is recorded."""

    APPROVE = "approve"
    REJECT = "reject"
    RETRY = "retry"
    ROLL_BACK = "roll_back"
    TAKE_OVER = "take_over"
    ABANDON = "abandon"
    EXTEND = "extend"


class IncidentState(enum.StrEnum):
    """Where an incident is."""

    OPEN = "open"
    CLOSED = "closed"


class ApprovalState(enum.StrEnum):
    """Where an approval is. It is consumed by the one start that it allowed."""

    PENDING = "pending"
    APPROVED = "approved"
    CONSUMED = "consumed"
    REJECTED = "rejected"
    EXPIRED = "expired"
    VOIDED = "voided"
