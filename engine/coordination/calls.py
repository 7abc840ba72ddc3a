"""One call of an agent that takes a person's yes: asked for, shown whole, bound. Never the approval of a change."""

from __future__ import annotations

import html
import json
import shlex
from collections.abc import Mapping
from datetime import datetime, timedelta

from engine.coordination import approvals, machine
from engine.coordination.orders import Plan, World
from engine.domain import digest
from engine.domain.agent import Asked, CallState, Tool, Where
from engine.domain.records import said
from engine.domain.states import ApprovalState, RunEvent
from engine.store import conversations, evidence, models, questions
from engine.store.ids import new_id, new_token
from engine.store.session import Session

STANDS = timedelta(minutes=30)
""" So long people are asked about a call, where the step does not say it. """
MOST_SHOWN = 1600
""" Characters as Slack counts them: what does not fit into the message whole is not asked about. """
WHY = "Why"
""" The line that explains: what the agent says of it, and no part of what is bound. """


def digest_of(order_digest: str, call: models.AgentCall) -> str:
    """What a yes to a call binds: this call of this conversation, in an attempt of exactly this order."""
    bound = {"conversation": call.conversation_id, "id": call.call_id, "tool": call.tool.value, "args": call.args}
    return digest.of_value({"agent_call": bound, "order": order_digest})


def whole(call: models.AgentCall) -> str:
    """A call as a person reads it: a command as a shell takes it, anything else as JSON. Nothing in it is invisible."""
    argv = call.args.get("argv")
    if call.tool is Tool.RUN and isinstance(argv, list) and all(isinstance(word, str) for word in argv):
        return " ".join(shlex.quote(word) if word.isprintable() else json.dumps(word) for word in argv)
    return f"{call.tool} {json.dumps(call.args)}"


def waiting(session: Session, attempt: models.Attempt, asked: Asked) -> tuple[models.AgentCall | None, str]:
    """The call as it is kept, if people can be asked about it; or why they cannot."""
    talk = conversations.open_one(session, attempt.run_id, attempt.leg)
    call = conversations.find_call(session, talk.id, asked.call.id) if talk is not None else None
    if call is None or call.state is not CallState.ASKED:
        return None, "it asks for a yes to a call that is not kept as one that waits"
    if (call.tool, call.args) != (asked.call.tool, dict(asked.call.args)):
        return None, "it asks for a yes to another call than the one that is kept"
    if len(html.escape(whole(call), quote=False)) > MOST_SHOWN:
        return None, f"it asks for a yes to a call of more than {MOST_SHOWN} characters, which nobody would see whole"
    try:
        digest_of(attempt.order_digest, call)
    except ValueError:
        return None, "it asks for a yes to a call with half characters in it"
    return call, ""


def ask(
    session: Session, run: models.Run, attempt: models.Attempt, call: models.AgentCall, why: str, now: datetime
) -> models.Run:
    """Ask for a yes to this one call of an attempt that ended so, and wait for it."""
    row = models.Approval(
        id=new_id(),
        run_id=run.id,
        leg=attempt.leg,
        agent_call_id=call.id,
        state=ApprovalState.PENDING,
        token=new_token(),
        content_digest=attempt.content_digest,
        order_digest=digest_of(attempt.order_digest, call),
        lines={**_lines(attempt.leg, attempt.target, call), WHY: why[:500] or "it does not say"},
        preview=whole(call),
        requested_at=now,
        expires_at=min(now + STANDS, run.deadline_at),
    )
    questions.add_approval(session, row)
    asking = machine.move(
        session,
        run,
        RunEvent.CALL_ASKED,
        now,
        text=f"{attempt.leg} asks for a yes to one call: {whole(call)[:300]}",
        waits_for=f"a yes to a call of {attempt.leg}",
        wake_at=approvals.warn_at(row),
        detail={"order": row.order_digest, **said(evidence.result(attempt)), **said(evidence.approval(row))},
    )
    approvals.tell(session, run.incident_number, row, "requested", now)
    return asking


def mismatch(session: Session, approval: models.Approval, run: models.Run, plan: Plan, world: World) -> str:
    """Why this yes binds no call of this order; empty when it does."""
    call = conversations.get_call(session, approval.agent_call_id) if approval.agent_call_id else None
    if call is None:
        return "it was given for a change, not for a call of an agent"
    talk = conversations.open_one(session, run.id, plan.leg.id)
    if approval.leg != plan.leg.id or talk is None or talk.id != call.conversation_id:
        return "the agent that asked does not go on"
    if call.state is not CallState.ASKED:
        return f"the call is {call.state} already"
    if world.shelf_digest != run.runbook_digest:
        return "the runbook on disk is not the one that this run started with"
    if approval.content_digest != plan.content_digest:
        return "the prompt or the image is not what it was when the agent asked"
    if approval.order_digest != digest_of(plan.order_digest, call):
        return "the call, or the order that it is made under (target, grants, inputs, evidence), is not the one shown"
    return ""


def not_shown(session: Session, approval: models.Approval, plan: Plan) -> str:
    """Why a person's yes would be to a call that they did not see; empty when they saw it."""
    call = conversations.get_call(session, approval.agent_call_id or "")
    if call is None:
        return "the call is not kept"
    target = plan.target.name if plan.target else None
    bound = {name: text for name, text in approval.lines.items() if name != WHY}
    shown = bound == dict(_lines(plan.leg.id, target, call)) and approval.preview == whole(call)
    return "" if shown else "what was shown of the call is not what it says"


def _lines(leg: str, target: str | None, call: models.AgentCall) -> Mapping[str, str]:
    where = f"on {target}" if target and call.args.get("on") == Where.TARGET.value else "in the VM of its step"
    return {"Call": f"{whole(call)} ({where})" if call.tool is Tool.RUN else whole(call), "Step": f"{leg}, an agent"}
