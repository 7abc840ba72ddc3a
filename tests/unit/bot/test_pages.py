"""The dashboard, health and metrics: readable with any data, harmless with hostile data, honest when blind."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import pytest
from aiohttp.test_utils import TestClient, TestServer

from bot.app import create_app
from bot.options import BotOptions
from bot.views.render import page
from engine.domain.errors import Unavailable
from engine.domain.incident import IncidentView, Person, WorkerView
from engine.domain.states import AttemptState
from tests.doubles import incidents as told
from tests.doubles.service import FakeService
from tests.unit.bot.conftest import Bot

STORIES = {
    "ordinary": told.incident,
    "unknown": told.unknown,
    "halted": told.halted,
    "completed": told.completed,
    "empty": told.empty,
    "hostile": told.hostile,
}


WORKER = WorkerView(id="box-1/1", pool="default", concurrency=2, since=told.T0, alive_until=None)


class Reader(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def assert_harmless(text: str) -> None:
    """Nothing of a stranger became markup, and nothing that our own policy forbids is there."""
    for tag, attributes in Reader(text).tags:
        assert tag not in {"script", "style", "iframe", "img", "form", "object", "base"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name != "style"
            if name in {"href", "src"}:
                assert value
                assert value.startswith("/"), value


@pytest.mark.parametrize("name", STORIES)
def test_an_incidents_page_is_harmless_with_any_data(name: str) -> None:
    assert_harmless(page("incident.html.j2", incident=STORIES[name](), switch=told.ON))


def test_the_list_is_harmless_with_any_data() -> None:
    summaries = [told.summary(title=told.HOSTILE, waits_for=told.HOSTILE, leg=told.HOSTILE, runbook=told.HOSTILE)]

    switch = dataclasses.replace(told.ON, by=Person(id="cli:x", name=told.HOSTILE), reason=told.HOSTILE)
    workers = [dataclasses.replace(WORKER, id=told.HOSTILE)]
    unwell = {told.HOSTILE: told.HOSTILE}

    assert_harmless(page("index.html.j2", incidents=summaries, unwell=unwell, workers=workers, switch=switch))


async def get(bot: Bot, path: str) -> tuple[int, str]:
    async with bot.client.get(path) as answer:
        return answer.status, await answer.text()


async def test_the_list_shows_what_waits_for_whom(bot: Bot) -> None:
    status, text = await get(bot, "/")

    assert status == 200
    assert 'href="/incidents/12"' in text
    assert "waits for a yes from alice or bob" in text


async def test_the_list_says_what_is_unwell(bot: Bot) -> None:
    bot.service.unwell = {"libvirt": "no answer from qemu:///system"}

    assert "no answer from qemu:///system" in (await get(bot, "/"))[1]


async def test_the_list_is_shown_even_if_health_cannot_be_told(bot: Bot) -> None:
    bot.service.fails["healthy"] = ZeroDivisionError()
    status, text = await get(bot, "/")

    assert status == 200
    assert "cannot be told" in text


@pytest.mark.parametrize(("path", "status"), [("/", 200), ("/incidents/12", 200), ("/incidents/99", 404)])
async def test_every_page_says_that_the_kill_switch_is_on_who_threw_it_when_and_why(
    bot: Bot, path: str, status: int
) -> None:
    before = (await get(bot, path))[1]
    bot.service.switch = told.ON
    answer, text = await get(bot, path)

    assert "kill switch" not in before
    assert answer == status
    assert "The kill switch is on" in text
    assert "Thrown by alice" in text
    assert "2026-11-22 03:02 UTC" in text
    assert "a flood of alerts" in text


async def test_the_banner_is_enough_the_list_of_what_is_unwell_does_not_say_it_again(bot: Bot) -> None:
    bot.service.switch, bot.service.unwell = told.ON, {"kill switch": "on, thrown by alice"}
    _, text = await get(bot, "/")

    assert "Not well" not in text


@pytest.mark.parametrize("verb", ["kill_switch", "workers"])
async def test_what_stands_beside_the_list_does_not_keep_it_from_being_shown(bot: Bot, verb: str) -> None:
    bot.service.fails[verb] = ZeroDivisionError()
    status, text = await get(bot, "/")

    assert status == 200
    assert 'href="/incidents/12"' in text


async def test_the_list_shows_which_workers_live_for_which_pool(bot: Bot) -> None:
    none = (await get(bot, "/"))[1]
    until = told.at(15)
    bot.service.living = (WORKER, dataclasses.replace(WORKER, id="box-2/1", pool="prod-vpc", alive_until=until))
    _, text = await get(bot, "/")

    assert "None is alive" in none
    assert "box-1/1" in text
    assert "lives with this process" in text
    assert "prod-vpc" in text
    assert "03:02:26" in text


async def test_a_page_says_who_is_at_it_and_what_was_put_anew(bot: Bot) -> None:
    old = told.escalation(id="escalation-0", expired_at=told.at(150))
    asked = told.escalation(at_it=Person(id="U0BOB22", name="ben"))
    run = dataclasses.replace(told.halted().runs[0], escalations=(old, asked))
    bot.service.views[12] = told.incident(run)
    _, text = await get(bot, "/incidents/12")

    assert "ben is at it" in text
    assert "put anew" in text


async def test_a_page_shows_what_each_gate_measured(bot: Bot) -> None:
    bot.service.views[12] = told.halted()
    _, text = await get(bot, "/incidents/12")

    assert "status was 500, wanted 200" in text
    assert "&#34;status&#34;: 500" in text
    assert "the step&#39;s own claim" in text or "the step's own claim" in text


@pytest.mark.parametrize("number", ["99", "abc", "１２", "9" * 400, "-1", "12%00"])
async def test_an_unknown_incident_is_404_with_a_way_back(bot: Bot, number: str) -> None:
    status, text = await get(bot, f"/incidents/{number}")

    assert status == 404
    assert 'href="/"' in text


@pytest.mark.parametrize("path", ["/", "/incidents/12"])
async def test_a_database_that_is_away_is_503_and_says_what_to_do(bot: Bot, path: str) -> None:
    bot.service.fails["incidents"] = bot.service.fails["incident"] = Unavailable("the database does not answer")
    status, text = await get(bot, path)

    assert status == 503
    assert "signalbox doctor" in text


@pytest.mark.parametrize("path", ["/", "/incidents/12", "/incidents/99", "/nowhere", "/static/style.css", "/healthz"])
async def test_every_answer_carries_the_safety_headers(bot: Bot, path: str) -> None:
    async with bot.client.get(path) as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_the_dashboard_takes_no_orders(bot: Bot, method: str) -> None:
    for path in ("/", "/incidents/12"):
        async with bot.client.request(method, path) as answer:
            assert answer.status == 405


def test_colours_never_speak_alone() -> None:
    """Every badge has words, so that a page can be read without colours."""
    text = page("incident.html.j2", incident=told.halted(), switch=None)

    for badge in re.findall(r'class="badge \w+">([^<]*)<', text):
        assert re.search(r"[a-z]{3}", badge)


# -- for machines


async def test_healthz_is_200_when_all_is_well(bot: Bot) -> None:
    while (answer := await get(bot, "/healthz")) != (200, "{}"):
        assert "not started" in answer[1]


async def test_healthz_names_what_is_unwell(bot: Bot) -> None:
    bot.service.unwell = {"secrets": "no answer from OpenBao"}
    status, text = await get(bot, "/healthz")

    assert status == 503
    assert "no answer from OpenBao" in text


@pytest.mark.parametrize("error", [Unavailable("the database does not answer"), ZeroDivisionError()])
async def test_healthz_that_cannot_tell_is_503(bot: Bot, error: Exception) -> None:
    bot.service.fails["healthy"] = error

    assert (await get(bot, "/healthz"))[0] == 503


async def test_without_slack_all_else_works_and_healthz_says_what_to_set() -> None:
    service = FakeService(told.incident())
    async with TestClient(TestServer(create_app(service, BotOptions(public_url="http://x")))) as client:
        async with client.get("/healthz") as answer:
            assert answer.status == 503
            assert "SIGNALBOX_SLACK_BOT_TOKEN" in await answer.text()
        async with client.get("/") as answer:
            assert answer.status == 200
        async with client.post("/slack/events") as answer:
            assert answer.status == 404


async def test_metrics_are_gauges_of_state(bot: Bot) -> None:
    _, text = await get(bot, "/metrics")

    assert "signalbox_incidents_open 1\n" in text
    assert 'signalbox_runs{state="halted"} 2\n' in text
    assert 'signalbox_outbox_rows{state="dead"} 0\n' in text
    assert text.count("# TYPE signalbox_runs gauge") == 1


async def test_metrics_that_cannot_be_told_are_a_gap(bot: Bot) -> None:
    bot.service.fails["metrics"] = Unavailable("the database does not answer")

    assert (await get(bot, "/metrics"))[0] == 503


def test_options_never_print_their_secrets() -> None:
    options = BotOptions(public_url="x", slack_bot_token="xoxb-secret", slack_signing_secret="sig-secret")

    assert "secret" not in repr(options).replace("slack_signing_secret", "")


def test_a_strangers_script_is_text() -> None:
    text = page("incident.html.j2", incident=told.hostile(), switch=None)

    assert "<script" not in text
    assert "&lt;script" in text


async def test_a_page_is_not_for_a_name_that_a_stranger_points_at_this_machine(bot: Bot) -> None:
    """DNS rebinding: the browser asks us under the stranger's name, and his script would read the answer."""
    for path in ("/", "/incidents/1"):
        async with bot.client.get(path, headers={"Host": "evil.example:8080"}) as answer:
            assert answer.status == 421
            assert "SIGNALBOX_PUBLIC_URL" in await answer.text()
    async with bot.client.get("/", headers={"Host": "box.test"}) as answer:
        assert answer.status == 200


# -- the output of an attempt

HOSTILE = "\x1b[31mred\x1b[0m\x1b]0;title\x07 <script>alert(1)</script> \u202eevil\x08\x00\n 10%\r 99%\r\n\tdone"


def running(printed: str = "", stdout: str = "") -> IncidentView:
    """The ordinary incident, whose newest attempt runs."""
    incident = told.incident()
    [*runs, run] = incident.runs
    attempt = dataclasses.replace(
        run.attempts[-1], state=AttemptState.STARTED, ended_at=None, printed=printed, stdout=stdout
    )
    return dataclasses.replace(incident, runs=(*runs, dataclasses.replace(run, attempts=(*run.attempts[:-1], attempt))))


def test_output_is_shown_as_a_terminal_would_and_is_never_markup() -> None:
    for text in (live_page(running(HOSTILE)), page("incident.html.j2", incident=running(HOSTILE), switch=told.ON)):
        assert_harmless(text)
        assert "red &lt;script&gt;alert(1)&lt;/script&gt; evil\n 99%\n\tdone" in text
        assert not set(text) & set("\x1b\x07\x08\x00\r\u202e")


def test_the_page_of_an_attempt_looks_again_while_it_runs_and_no_longer() -> None:
    assert '<meta http-equiv="refresh" content="2">' in live_page(running("so far"))
    assert "It has printed nothing yet" in live_page(running())
    ended = told.incident()
    text = live_page(ended)
    assert "refresh" not in text
    assert ended.runs[-1].attempts[-1].stdout.split("\n")[0] in text


def live_page(incident: IncidentView) -> str:
    run = incident.runs[-1]
    return page("attempt.html.j2", incident=incident, run=run, attempt=run.attempts[-1], switch=told.ON)


async def test_an_attempt_has_its_address_and_what_is_none_has_not(bot: Bot) -> None:
    bot.service.views[12] = running("so far")
    attempt = bot.service.views[12].runs[-1].attempts[-1]
    status, text = await get(bot, f"/incidents/12/attempts/{attempt.id}")
    _, incident = await get(bot, "/incidents/12")

    assert (status, "so far" in text) == (200, True)
    assert f'href="/incidents/12/attempts/{attempt.id}"' in incident
    for wrong in ("/incidents/12/attempts/none", f"/incidents/x/attempts/{attempt.id}", "/incidents/12/attempts/"):
        assert (await get(bot, wrong))[0] == 404
