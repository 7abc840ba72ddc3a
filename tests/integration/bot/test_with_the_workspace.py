"""The whole bot against the stand-in workspace: real slack_sdk, real slack-bolt, real HTTP, Slack's own limits."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from bot.app import create_app
from bot.options import BotOptions
from bot.views import messages, modals, story
from bot.views.render import Message
from demo.workspace.driver import Driver, Outcome
from demo.workspace.server import ANA, BEN, CLEO, Workspace
from engine.domain.errors import NotAllowed
from engine.domain.incident import IncidentView, MessageRef, OutboxItem, Person, Topic
from engine.domain.states import ApprovalState, Decision
from tests.doubles import incidents as told
from tests.doubles.service import FakeService, row

SECRET, TOKEN = "a-signing-secret", "xoxb-a-token"
CHANNEL = "inc-12-disk-srv-on-checkout-1-is-96-full"
PATIENCE_S = 20.0


@dataclass
class World:
    """Workspace, bot and fake front door, all running."""

    service: FakeService
    workspace: Workspace
    driver: Driver
    base: str

    async def tell(self, *items: OutboxItem) -> None:
        """Put rows into the outbox and wait until each was sent or given up."""
        for item in items:
            self.service.due.append(item)
            await self.until(lambda item=item: self._done(item))  # type: ignore[misc]  # mypy knows no default here

    def _done(self, item: OutboxItem) -> bool:
        outcomes = self.service.outcomes.get(item.key, [])
        if outcomes and outcomes[-1].state == "later":  # the real outbox would hand it out again
            last = outcomes.pop()
            attempts = item.attempts + 1
            self.service.due.append(dataclasses.replace(item, attempts=attempts, ambiguous=last.ambiguous))
        return bool(outcomes)

    async def until(self, done: Callable[[], Any]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not done():  # noqa: ASYNC110  the fake front door knows no event; the deadline is above
                await asyncio.sleep(0.02)

    async def api(self, method: str, **args: Any) -> dict[str, Any]:
        """Call the workspace's Web API as our bot."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        url = f"{self.workspace.api_url}{method}"
        async with ClientSession() as session, session.post(url, json=args, headers=headers) as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def shown(self, channel: str = CHANNEL) -> list[dict[str, Any]]:
        """Messages without the workspace's own notices (joined, topic)."""
        every = await asyncio.to_thread(self.driver.messages, channel)
        return [message for message in every if not str(message.get("subtype", "")).startswith("channel_")]

    async def last(self, channel: str = CHANNEL) -> dict[str, Any]:
        return (await self.shown(channel))[-1]

    async def click(self, message: dict[str, Any], action_id: str, user: str = BEN.id, **more: Any) -> Outcome:
        return await asyncio.to_thread(self.driver.click, message, action_id, user=user, **more)

    async def view(self, user: str = BEN.id) -> dict[str, Any]:
        return await asyncio.to_thread(self.driver.wait_for_view, user, lambda _view: True, PATIENCE_S)

    async def submit(self, view: dict[str, Any], values: dict[str, Any], user: str = BEN.id) -> Outcome:
        return await asyncio.to_thread(self.driver.submit, view, values, user=user)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    service = FakeService(told.incident())
    async with Workspace(signing_secret=SECRET, bot_token=TOKEN, time_factor=20) as workspace:
        options = BotOptions(
            public_url="https://box.test",
            slack_bot_token=TOKEN,
            slack_signing_secret=SECRET,
            slack_api_url=workspace.api_url,
            invite=(ANA.id, BEN.id, CLEO.id),
        )
        async with TestServer(create_app(service, options)) as server:
            base = str(server.make_url("/"))
            workspace.delivery.request_url = f"{base}slack/events"
            driver = Driver(workspace.url)
            yield World(service, workspace, driver, base)
            driver.close()


CARD, FEED = row(Topic.CARD, "inc-a1"), row(Topic.FEED, "inc-a1")
LEG, GATE = row(Topic.LEG_REPORTED, "attempt-staging"), row(Topic.GATE_REPORTED, "verdict-staging-ok")
APPROVAL, ESCALATION = row(Topic.APPROVAL, "approval-1"), row(Topic.ESCALATION, "escalation-1")


def again(item: OutboxItem) -> OutboxItem:
    """The same thing told later, as a row of its own."""
    return dataclasses.replace(item, key=item.key + " again")


async def test_an_incident_is_told_in_its_channel_with_its_people_in_it(world: World) -> None:
    await world.tell(FEED, CARD, LEG, GATE, APPROVAL)
    channel = world.driver.channel
    found = await asyncio.to_thread(channel, CHANNEL)
    card, gate, approval = await world.shown()
    [line] = await world.shown("signalbox")

    assert found is not None
    assert {ANA.id, BEN.id, CLEO.id} <= set(found["members"])
    assert "https://box.test/incidents/12" in found["topic"]["value"]
    assert len(card["replies"]) == 1
    assert "4 of 4 checks held" in Driver.text(gate)
    assert Driver.buttons(approval) == ["approval.approve", "approval.reject", "approval.extend"]
    assert found["id"] in Driver.text(line)


async def test_a_click_approves_and_the_message_tells_who(world: World) -> None:
    await world.tell(APPROVAL)
    asked = await world.last()
    outcome = await world.click(asked, "approval.approve")
    approved = told.approval(ApprovalState.APPROVED, decided_by=Person(id=BEN.id, name="ben"))
    world.service.views[12] = told.incident(told.run(approvals=(approved,)))
    await world.tell(again(APPROVAL))
    [answered] = await world.shown()
    [said] = world.service.asked("approve")

    assert outcome.ok
    assert (said["person"].id, said["person"].name, said["yes"]) == (BEN.id, BEN.name, True)
    assert (
        said["at"] == MessageRef(channel=asked["channel"], ts=asked["ts"]) == world.service.refs["approval:approval-1"]
    )
    assert Driver.buttons(answered) == []
    assert BEN.id in Driver.text(answered)


async def test_three_copies_of_a_click_count_once(world: World) -> None:
    await world.tell(APPROVAL)
    outcome = await world.click(await world.last(), "approval.approve", times=3)

    assert [outcome.status, *(copy.status for copy in outcome.copies)] == [200, 200, 200]
    assert len(world.service.asked("approve")) == 1


async def test_who_may_not_is_told_privately_who_may(world: World) -> None:
    await world.tell(APPROVAL)
    world.service.fails["approve"] = NotAllowed("you may not decide this", f"these people may: <@{BEN.id}>")
    await world.click(await world.last(), "approval.approve", user=CLEO.id)
    answer = await world.last()

    assert answer["visible_to"] == CLEO.id
    assert f"<@{BEN.id}>" in Driver.text(answer)


async def test_a_rejection_asks_why_and_takes_the_answer(world: World) -> None:
    await world.tell(APPROVAL)
    await world.click(await world.last(), "approval.reject")
    outcome = await world.submit(await world.view(), {"reason": {"text": "Wrong host"}})

    assert outcome.ok
    assert world.service.asked("approve")[0]["reason"] == "Wrong host"


@pytest.mark.parametrize("decision", list(Decision))
async def test_every_decision_can_be_pressed(world: World, decision: Decision) -> None:
    world.service.views[12] = told.halted()
    await world.tell(ESCALATION)
    outcome = await world.click(await world.last(), f"escalation.decide.{decision.value}")

    assert outcome.ok
    assert world.service.asked("decide")[0]["decision"] is decision


async def test_a_runbook_is_chosen_in_the_feed(world: World) -> None:
    world.service.views[12] = told.unknown()
    await world.tell(FEED)
    await asyncio.to_thread(world.driver.join, "signalbox", user=BEN.id)
    outcome = await world.click(await world.last("signalbox"), "runbook.choose", value="disk-full")

    assert outcome.ok
    [said] = world.service.asked("choose_runbook")
    assert (said["token"], said["runbook"]) == ("tok-choose", "disk-full")


async def test_a_harness_note_is_written_in_its_form(world: World) -> None:
    world.service.views[12] = told.completed()
    await world.tell(row(Topic.RUN_ENDED, "run-1"))
    await world.click(await world.last(), "note.open")
    view = await world.view()
    unsaid = await world.submit(view, {"what": {"text": " "}, "rule": {"text": " "}})
    typed = {"what": {"text": "It guessed."}, "rule": {"text": "Do not guess."}, "step:fix": {"mark": "skipped"}}
    outcome = await world.submit(await world.view(), typed)
    await world.tell(row(Topic.NOTE_WRITTEN, "note-1"))

    assert set(unsaid.errors) <= {"what", "rule"}
    assert unsaid.errors
    assert outcome.ok
    assert world.service.asked("note")[0]["steps"]["fix"] == "skipped"
    assert "agents.md" in Driver.text(await world.last())


async def test_the_command_answers_the_one_who_typed(world: World) -> None:
    outcome = await asyncio.to_thread(world.driver.command, "general", "/signalbox list", user=ANA.id)
    answer = await world.last("general")

    assert outcome.ok
    assert answer["visible_to"] == ANA.id
    assert "#12" in Driver.text(answer)


async def test_an_approval_warns_gets_more_time_and_expires(world: World) -> None:
    """The whole way: asked, warned, extended on the reminder, expired; and then nothing asks any more."""
    await world.tell(APPROVAL)
    await world.tell(row(Topic.APPROVAL_REMINDER, "approval-1", key="approval:approval-1:warned:1"))
    asked, warned = await world.shown()
    outcome = await world.click(warned, "approval.extend")
    [said] = world.service.asked("extend")
    given = told.approval(extended_by=Person(id=BEN.id, name="ben"), expires_at=told.at(2200))
    world.service.views[12] = told.incident(told.run(approvals=(given,)))
    await world.tell(again(APPROVAL))
    extended, _ = await world.shown()
    over = told.approval(ApprovalState.EXPIRED, decided_by=None, decided_at=None, reason="nobody answered in time")
    world.service.views[12] = told.incident(told.run(approvals=(over,)))
    await world.tell(dataclasses.replace(APPROVAL, key="approval:approval-1:expired"))
    expired, settled = await world.shown()

    assert Driver.buttons(warned) == ["approval.extend"]
    assert f"/archives/{asked['channel']}/p" in Driver.text(warned)
    assert outcome.ok
    assert said["at"] == MessageRef(channel=warned["channel"], ts=warned["ts"])
    assert world.service.refs["approval:approval-1:warned:1"] == said["at"]
    assert f"<@{BEN.id}> gave it more time" in Driver.text(extended)
    assert Driver.buttons(extended) == ["approval.approve", "approval.reject", "approval.extend"]
    assert Driver.buttons(expired) == Driver.buttons(settled) == []
    assert "Expired" in Driver.text(settled)


async def test_a_halt_reminds_in_both_channels_and_whoever_is_at_it_is_named(world: World) -> None:
    world.service.views[12] = told.halted()
    reminder = row(Topic.ESCALATION_REMINDER, "escalation-1", key="escalation:escalation-1:reminder:1")
    await world.tell(ESCALATION, reminder)
    await asyncio.to_thread(world.driver.join, "signalbox", user=BEN.id)
    line = await world.last("signalbox")
    outcome = await world.click(line, "escalation.extend")
    at_it = told.escalation(at_it=Person(id=BEN.id, name="ben"), remind_at=told.at(9e8))
    world.service.views[12] = told.incident(dataclasses.replace(told.halted().runs[0], escalations=(at_it,)))
    await world.tell(again(ESCALATION))

    assert outcome.ok
    assert world.service.asked("extend")[0]["at"] == MessageRef(channel=line["channel"], ts=line["ts"])
    for message in (*await world.shown(), await world.last("signalbox")):
        assert f"<@{BEN.id}> is at it" in Driver.text(message)
    assert len(await world.shown()) == 2


async def test_stop_is_listed_and_shown_on_the_card_until_resume(world: World) -> None:
    async def type_in(words: str) -> str:
        await asyncio.to_thread(world.driver.command, CHANNEL, f"/signalbox {words}", user=BEN.id)
        return Driver.text(await world.last())

    await world.tell(CARD)
    stopped, listed = await type_in("stop a flood"), await type_in("list")
    await world.tell(again(CARD))
    card = Driver.text((await world.shown())[0])
    resumed, after = await type_in("resume"), await type_in("list")
    await world.tell(dataclasses.replace(CARD, key="card later"))
    later = Driver.text((await world.shown())[0])

    assert [call["on"] for call in world.service.asked("throw_kill_switch")] == [True, False]
    for text in (stopped, listed, card):
        assert "The kill switch is on" in text
        assert "a flood" in text
    for text in (resumed, after, later):
        assert "The kill switch is on" not in text


async def test_in_the_incidents_channel_the_command_knows_which(world: World) -> None:
    await world.tell(CARD)
    await asyncio.to_thread(world.driver.command, CHANNEL, "/signalbox abandon a test", user=BEN.id)

    assert world.service.asked("abandon")[0] | {"person": None} == {"number": 12, "person": None, "reason": "a test"}


@pytest.mark.parametrize("fault", ["lost_reply", "http_500", "429"])
@pytest.mark.parametrize("method", ["chat.postMessage", "conversations.create", "chat.update"])
async def test_one_message_and_one_channel_whatever_slack_does(world: World, method: str, fault: str) -> None:
    """`lost_reply` carries the call out and breaks the connection: the SDK alone would have sent it twice."""
    await asyncio.to_thread(world.driver.fault, fault, method=method, times=2)
    await world.tell(CARD, APPROVAL, again(CARD))
    channels = [c["name"] for c in await asyncio.to_thread(world.driver.channels) if c["name"].startswith("inc-")]

    assert channels == [CHANNEL]
    assert len(await world.shown()) == 2


async def test_what_was_due_while_slack_was_down_is_told_when_it_is_back(world: World) -> None:
    await world.tell(CARD)
    await asyncio.to_thread(world.driver.fault, "down", seconds=1.5)
    world.service.due.append(APPROVAL)
    await world.until(lambda: world.service.outcomes.get(APPROVAL.key))
    assert world.service.outcomes[APPROVAL.key][-1].counted is False
    await world.until(lambda: world._done(APPROVAL) and world.service.outcomes[APPROVAL.key][-1].state == "sent")

    assert len(await world.shown()) == 2


@pytest.mark.parametrize(
    "view", [told.halted, told.completed, told.empty, told.hostile], ids=lambda view: view.__name__
)
async def test_every_view_passes_the_workspaces_own_checks(world: World, view: Callable[[], IncidentView]) -> None:
    """The workspace was written by somebody else from Slack's reference: a second opinion on every template."""
    incident = view()
    world.workspace.limits.on = False
    channel = await world.api("conversations.create", name="drawing")
    for drawn in _everything(incident):
        answer = await world.api(
            "chat.postMessage", channel=channel["channel"]["id"], text=drawn.text, blocks=drawn.blocks
        )
        assert answer["ok"], (answer, json.dumps(drawn.blocks, ensure_ascii=False)[:2000])
    modals.note(12, incident.title, story.note_steps(incident), "{}")


def _everything(incident: IncidentView) -> list[Message]:
    base = "https://box.test"
    drawn = [
        messages.card(incident, told.ON, base),
        messages.feed(incident, base, None),
        messages.usage(["x"], base, "y"),
    ]
    drawn.append(messages.incidents([told.summary(title=incident.title)], told.ON, base))
    link, now = f"{base}/p1", told.at(900)
    for run in incident.runs:
        drawn += [messages.approval_reminder(incident, run, each, link=link, now=now) for each in run.approvals]
        drawn += [
            messages.escalation_reminder(incident, run, each, link=link, now=now, named=True)
            for each in run.escalations
        ]
        drawn.append(messages.run_ended(incident, run, base))
        drawn += [messages.attempt(incident, run, each, base) for each in run.attempts]
        drawn += [messages.gate(incident, run, each, base) for each in run.verdicts]
        drawn += [messages.approval(incident, run, each, base) for each in run.approvals]
        drawn += [messages.escalation(incident, run, each, base) for each in run.escalations]
    drawn += [messages.note_written(incident, each, base) for each in incident.notes]
    drawn += [messages.alert_changed(each) for each in incident.events[:1]]
    return drawn
