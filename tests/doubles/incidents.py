"""Incidents as the front door shows them: an ordinary one in every stage, an empty one, a hostile one."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

from engine.domain.alert import Severity
from engine.domain.incident import (
    AlertView,
    ApprovalView,
    AttemptView,
    CheckView,
    EscalationView,
    EventView,
    IncidentSummary,
    IncidentView,
    LegView,
    NoteView,
    OrderView,
    Person,
    RunView,
    SwitchView,
    VerdictView,
)
from engine.domain.states import (
    ApprovalState,
    AttemptState,
    Decision,
    IncidentState,
    RunState,
    Verdict,
)

T0 = datetime(2026, 11, 22, 3, 2, 11, tzinfo=UTC)
DIGEST = "sha256:4f7c1e0b9a2d" + "0" * 52
HOSTILE = (
    '<!channel> @here @everyone <@U0VICTIM> ```` ` ``` & "quoted" \\ {{ 7*7 }} {% raw %} </script><script>alert(1)'
    "</script> "
    "שלום \u202egnp.exe\u202c 🚒👩‍🚒 \x1b[31mred\x1b[0m \x00\x07\r\n*Gate held* _ok_ "
    "~no~ <https://evil.test|click> "
)
""" Everything that could break out of JSON, of Slack's markup, of HTML, or of a line. """


OFF = SwitchView(on=False)
ON = SwitchView(on=True, by=Person(id="U0ALICE1", name="alice"), at=T0, reason="a flood of alerts")


def at(seconds: float) -> datetime:
    """A moment of the story."""
    return T0 + timedelta(seconds=seconds)


def check(
    check_id: str, verdict: Verdict = Verdict.HELD, why: str = "", seen: Any = None, *, independent: bool = True
) -> CheckView:
    return CheckView(
        check_id=check_id,
        type="command" if independent else "expr",
        definition='{"run": ["df", "--output=pcent", "/srv"], "expect": "out < 80"}',
        verdict=verdict,
        why=why or f"{check_id} met `out < 80`",
        samples=[{"verdict": verdict.value, "why": why, "seen": seen}],
        independent=independent,
    )


def verdict(leg: str, of: str, found: Verdict, ended_s: float, *checks: CheckView, why: str = "") -> VerdictView:
    return VerdictView(
        id=f"verdict-{leg}",
        leg=leg,
        of=of,
        verdict=found,
        why=why,
        checks=checks,
        begun_at=at(ended_s - 9),
        ended_at=at(ended_s),
    )


def attempt(
    leg: str, state: AttemptState, start_s: float, *, target: str | None = None, stdout: str = "", reason: str = ""
) -> AttemptView:
    ended = state is not AttemptState.STARTED
    return AttemptView(
        id=f"attempt-{leg}",
        leg=leg,
        target=target,
        state=state,
        started_at=at(start_s),
        ended_at=at(start_s + 14) if ended else None,
        reason=reason,
        stdout=stdout,
        stderr="",
        output={"freed_mb": 412} if ended else None,
        content_digest=DIGEST,
        artefact_digest=None,
        connections=[{"host": "staging", "port": 22, "allowed": True}],
    )


LEGS = (
    ("receive", "receive", "Receive", "done", ""),
    ("diagnose", "attempt", "Diagnose", "done", "log_growth in /srv/app/log"),
    ("diagnosis-confirmed", "gate", "Diagnosis confirmed", "held", "3 of 3"),
    ("fix", "attempt", "Write the fix", "done", ""),
    ("staging:rehearse", "attempt", "Staging (rehearse)", "done", ""),
    ("staging:rollback", "attempt", "Staging (undo)", "done", ""),
    ("staging:rollback-gate", "gate", "Staging undone", "held", "1 of 1"),
    ("staging", "attempt", "Clean up staging", "done", "412 MB freed"),
    ("staging-ok", "gate", "Staging is well", "held", "4 of 4"),
    ("production", "attempt", "Clean up production", "waiting", "waits for a yes"),
    ("production-healthy", "gate", "Production is well", "todo", ""),
    ("close", "close", "Close", "todo", ""),
)


def legs(**marks: str) -> tuple[LegView, ...]:
    return tuple(
        LegView(id=leg, kind=kind, title=title, mark=marks.get(leg.replace("-", "_"), mark), detail=detail)
        for leg, kind, title, mark, detail in LEGS
    )


def approval(state: ApprovalState = ApprovalState.PENDING, **changes: Any) -> ApprovalView:
    decided = state is not ApprovalState.PENDING
    made = ApprovalView(
        id="approval-1",
        leg="production",
        state=state,
        token="tok-approve",
        order=OrderView(
            content_digest=DIGEST,
            order_digest="sha256:90b2aa17c3d4" + "1" * 52,
            lines={
                "Target": "production (checkout-1:22)",
                "Runs": "cleanup.sh /srv/app/log --keep 2",
                "May reach": "checkout-1:22",
                "Secrets": "ssh key disk-prd, 1 read, dies with the step",
                "Rollback": "restore.sh, rehearsed on staging",
            },
            preview="#!/bin/sh\nset -eu\nfind \"$1\" -name '*.log.[0-9]*' -newermt '-30 days' -print0 |\n"
            "  xargs -0 gzip -9\n",
        ),
        requested_at=at(100),
        expires_at=at(1000),
        decided_by=Person(id="U0ALICE1", name="alice") if decided else None,
        decided_at=at(130) if decided else None,
        reason="",
        may_approve=("U0ALICE1", "U0BOB22"),
    )
    return dataclasses.replace(made, **changes)


def escalation(decided: Decision | None = None, **changes: Any) -> EscalationView:
    made = EscalationView(
        id="escalation-1",
        leg="production-healthy",
        why="the gate failed: checkout answers 500 on 3 of 3 samples",
        remedy="Look at the check `answers` first. The rollback was rehearsed on staging 4 minutes ago.",
        mention="<!subteam^S0ONCALL>",
        may_decide=("U0ALICE1", "U0BOB22"),
        options=(Decision.RETRY, Decision.ROLL_BACK, Decision.TAKE_OVER, Decision.ABANDON),
        token="tok-decide",
        raised_at=at(180),
        decided=decided,
        decided_by=Person(id="U0ALICE1", name="alice") if decided else None,
        decided_at=at(200) if decided else None,
        reason="",
    )
    return dataclasses.replace(made, **changes)


STAGING_OK = verdict(
    "staging-ok",
    "staging",
    Verdict.HELD,
    95,
    check("room", seen=31, why="31 < 80"),
    check("answers", seen={"status": 200, "ms": 12}, why="status == 200"),
    check("same-thing", seen=DIGEST, why="equal", independent=False),
    check("errors", seen=[0.0], why="result[0] <= 0.01"),
)
HEALTH_FAILED = verdict(
    "production-healthy",
    "production",
    Verdict.FAILED,
    178,
    check("room", seen=31, why="31 < 80"),
    check("answers", Verdict.FAILED, seen={"status": 500, "ms": 3}, why="status was 500, wanted 200"),
    check("errors", Verdict.INCONCLUSIVE, seen=[], why="no data: the newest sample is 94 s old"),
    why="answers failed on 3 of 3 samples",
)


def run(state: RunState = RunState.AWAITING_APPROVAL, **changes: Any) -> RunView:
    made = RunView(
        id="run-1",
        runbook="disk-full",
        runbook_digest=DIGEST,
        state=state,
        leg="production",
        waits_for="a yes from alice or bob",
        started_at=at(1),
        ended_at=None,
        inputs={"host": "checkout-1", "mount": "/srv"},
        legs=legs(),
        attempts=(
            attempt("diagnose", AttemptState.FINISHED, 5, target="production", stdout="/srv 96%\nlog_growth\n"),
            attempt("staging", AttemptState.FINISHED, 70, target="staging", stdout="freed 412 MB\n"),
        ),
        verdicts=(
            verdict("diagnosis-confirmed", "diagnose", Verdict.HELD, 30, check("df", seen=96, why="96 > 90")),
            STAGING_OK,
        ),
        approvals=(approval(),),
        escalations=(),
    )
    return dataclasses.replace(made, **changes)


def events() -> tuple[EventView, ...]:
    told = (
        (0, "run_opened", "alertmanager", "Alertmanager fired HostDiskFull on checkout-1"),
        (5, "attempt_started", "worker-1", "Diagnose began"),
        (19, "attempt_finished", "worker-1", "Diagnose finished: log_growth"),
        (30, "gate_held", "worker-1", "Diagnosis confirmed held"),
        (95, "gate_held", "worker-1", "Staging is well held: 4 of 4 checks"),
        (100, "approval_requested", "worker-1", "Approval asked for Clean up production"),
    )
    return tuple(
        EventView(id=number, at=at(seconds), kind=kind, actor=actor, text=text, detail={"seconds": seconds})
        for number, (seconds, kind, actor, text) in enumerate(told, 1)
    )


ALERT = AlertView(
    source="alertmanager",
    name="HostDiskFull",
    status="firing",
    severity=Severity.CRITICAL,
    title="Disk /srv on checkout-1 is 96% full",
    labels={"instance": "checkout-1", "mountpoint": "/srv", "severity": "critical"},
    annotations={"summary": "Disk /srv on checkout-1 is 96% full"},
    starts_at=T0,
    ends_at=None,
    link="http://prometheus.test/graph",
)

NOTE = NoteView(
    id="note-1",
    by=Person(id="U0ALICE1", name="alice"),
    at=at(400),
    steps={"diagnose": "drifted", "fix": "skipped", "staging": "followed"},
    what="It cleaned rotated logs, but the open file held the space.",
    change="A gate that looks for deleted files which are still open.",
    rule="Look for deleted open files before cleaning logs.",
    patch="--- a/agents.md\n+++ b/agents.md\n@@ -12,0 +13 @@\n"
    "+- Look for deleted open files before cleaning logs. (inc 12)\n",
)


def incident(*runs: RunView, **changes: Any) -> IncidentView:
    """The ordinary incident; it waits for approval unless other runs are given."""
    made = IncidentView(
        id="inc-a1",
        number=12,
        title="Disk /srv on checkout-1 is 96% full",
        severity=Severity.CRITICAL,
        state=IncidentState.OPEN,
        opened_at=T0,
        closed_at=None,
        opened_by="alertmanager",
        choose_token=None,
        runbooks=("disk-full", "cert-expired"),
        alerts=(ALERT,),
        runs=runs or (run(),),
        events=events(),
        notes=(),
    )
    return dataclasses.replace(made, **changes)


def unknown() -> IncidentView:
    """An alert that no runbook takes: a person chooses one."""
    return incident(title="Something odd on db-7", choose_token="tok-choose", runs=(), events=())


def halted() -> IncidentView:
    return incident(
        run(
            RunState.HALTED,
            leg="production-healthy",
            legs=legs(production="done", production_healthy="failed"),
            verdicts=(STAGING_OK, HEALTH_FAILED),
            approvals=(approval(ApprovalState.CONSUMED),),
            escalations=(escalation(),),
            waits_for="a decision",
        )
    )


def completed() -> IncidentView:
    return incident(
        run(
            RunState.COMPLETED,
            leg="close",
            ended_at=at(300),
            legs=legs(production="done", production_healthy="held", close="done"),
            approvals=(approval(ApprovalState.CONSUMED),),
            waits_for="",
        ),
        state=IncidentState.CLOSED,
        closed_at=at(300),
        notes=(NOTE,),
    )


def empty() -> IncidentView:
    """As little as an incident can hold."""
    bare = run(
        RunState.QUEUED,
        leg="",
        waits_for="",
        inputs={},
        legs=(),
        attempts=(),
        verdicts=(),
        approvals=(),
        escalations=(),
    )
    return incident(bare, title="x", alerts=(), events=(), runbooks=(), severity=Severity.UNKNOWN, opened_by="")


def blow_up(value: Any, text: str) -> Any:
    """The same values with every text replaced; ids, tokens, digests and times stay."""
    kept = {"id", "token", "choose_token", "content_digest", "order_digest", "artefact_digest", "runbook_digest"}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        changed = {n: getattr(value, n) if n in kept else blow_up(getattr(value, n), text) for n in names}
        return dataclasses.replace(value, **changed)
    if isinstance(value, tuple):
        return tuple(blow_up(each, text) for each in value)
    if isinstance(value, dict):
        return {f"{key}{text}": blow_up(each, text) for key, each in value.items()}
    if type(value) is str:
        return text
    return value


def hostile(text: str = HOSTILE) -> IncidentView:
    """Everything at once, many times over, and every text is `text`."""
    many = 40
    everything = run(
        RunState.HALTED,
        legs=legs() * 5,
        attempts=(attempt("staging", AttemptState.FAILED, 5, target="x", stdout="x", reason="x"),) * 3,
        verdicts=(
            verdict(
                "g", "s", Verdict.ERROR, 50, *[check(f"c{n}", Verdict.ERROR, "x", "x") for n in range(many)], why="x"
            ),
        ),
        approvals=(
            approval(reason="x", may_approve=("cli:x",) * many, extended_by=Person(id="x", name="x")),
            approval(ApprovalState.VOIDED, id="approval-2", reason="x"),
        ),
        escalations=(
            escalation(id="escalation-0", expired_at=T0),
            escalation(at_it=Person(id="x", name="x"), remind_at=at(9e8)),
            escalation(Decision.ABANDON, id="escalation-2", reason="x"),
        ),
    )
    story = incident(
        everything,
        choose_token="tok-choose",
        runbooks=tuple(f"book-{n}" for n in range(150)),
        events=events() * 60,
        notes=(NOTE,),
    )
    blown: IncidentView = blow_up(story, text)
    return blown


def summary(number: int = 12, **changes: Any) -> IncidentSummary:
    made = IncidentSummary(
        id=f"inc-{number}",
        number=number,
        title="Disk /srv on checkout-1 is 96% full",
        severity=Severity.CRITICAL,
        state=IncidentState.OPEN,
        opened_at=T0,
        closed_at=None,
        run_state=RunState.AWAITING_APPROVAL,
        runbook="disk-full",
        leg="production",
        waits_for="a yes from alice or bob",
    )
    return dataclasses.replace(made, **changes)
