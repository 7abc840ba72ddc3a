"""The driver client: reading, waiting, faults, restart, and what it keeps from other pages."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from http.client import HTTPException
from pathlib import Path

import pytest
import requests
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from demo.workspace import ANA, BEN, Workspace
from demo.workspace.background import running
from demo.workspace.driver import Driver, DriverError, Late
from tests.integration.workspace.app import SECRET, TOKEN, buttons
from tests.integration.workspace.conftest import Stage


def client(stage: Stage) -> WebClient:
    """The synchronous client of the same bot, which re-sends nothing."""
    return WebClient(token=TOKEN, base_url=stage.workspace.api_url, retry_handlers=[])


def posted(stage: Stage, *actions: str) -> str:
    """A channel inc-7 with one message; returns the channel."""
    slack = client(stage)
    channel = str(slack.conversations_create(name="inc-7")["channel"]["id"])
    slack.chat_postMessage(channel=channel, text="card", blocks=[buttons(*actions)])
    return channel


def test_a_script_waits_for_a_message_and_presses_its_button(stage: Stage) -> None:
    posted(stage, "approve")
    message = stage.driver.wait_for_message(r"inc-\d+", lambda m: "approve" in Driver.buttons(m), 5)
    assert Driver.text(message) == "card\napprove"
    outcome = stage.driver.click(message, "approve", user=ANA.id, times=2)
    assert outcome.ok
    assert [copy.status for copy in outcome.copies] == [200]
    private = stage.driver.wait_for_message("inc-7", lambda m: m["visible_to"] == ANA.id, 5)
    assert private["text"] == "You may not: Ben may."


def test_a_script_fills_a_modal(stage: Stage) -> None:
    posted(stage, "note")
    message = stage.driver.wait_for_message("inc-7", Driver.buttons, 5)
    stage.driver.click(message, "note", user=BEN.id)
    view = stage.driver.wait_for_view(BEN.id, lambda v: v["callback_id"] == "note", 5)
    values = {"what": {"v": "short"}, "how": {"v": "skipped"}}
    assert stage.driver.submit(view, values, user=BEN.id).errors == {"what": "A little longer, please."}
    values["what"]["v"] = "Never truncate."
    assert stage.driver.submit(view, values, user=BEN.id).ok
    assert stage.driver.views(BEN.id) == []


def test_what_does_not_come_is_late_and_what_cannot_be_done_says_why(stage: Stage) -> None:
    with pytest.raises(Late, match="a message in inc-"):
        stage.driver.wait_for_message("inc-.*", lambda _: True, 0.2)
    with pytest.raises(DriverError, match="sees no channel"):
        stage.driver.command("nowhere", "/signalbox list", user=ANA.id)
    with pytest.raises(DriverError, match="nobody with the id"):
        stage.driver.say("general", "x", user="U0NOBODY")
    with pytest.raises(DriverError, match="no fault 'rain'"):
        stage.driver.fault("rain")


def test_faults_hit_the_calls_they_are_meant_for(stage: Stage) -> None:
    slack = client(stage)
    channel = posted(stage, "approve")
    stage.driver.fault("429", method="chat.postMessage", seconds=7)
    with pytest.raises(SlackApiError) as limited:
        slack.chat_postMessage(channel=channel, text="x")
    assert limited.value.response.headers["Retry-After"] == "7"
    stage.driver.fault("http_500", method="pins.add", times=2)
    slack.auth_test()
    for _ in range(2):
        with pytest.raises(SlackApiError) as broken:
            slack.pins_add(channel=channel, timestamp="1.2")
        assert broken.value.response.status_code == 500
    with pytest.raises(SlackApiError, match="message_not_found"):
        slack.pins_add(channel=channel, timestamp="1.2")
    stage.driver.fault("hang", method="auth.test", seconds=1.0)
    impatient = WebClient(token=TOKEN, base_url=stage.workspace.api_url, retry_handlers=[], timeout=0.3)  # type: ignore[arg-type]  # urllib takes fractions
    with pytest.raises(TimeoutError):
        impatient.auth_test()


def test_a_lost_reply_was_carried_out(stage: Stage) -> None:
    channel = posted(stage, "approve")
    stage.driver.fault("lost_reply", method="chat.postMessage")
    with pytest.raises((OSError, HTTPException)):
        client(stage).chat_postMessage(channel=channel, text="did it arrive?")
    assert stage.driver.messages(channel)[-1]["text"] == "did it arrive?"
    (call,) = [c for c in stage.driver.calls("chat.postMessage") if c["fault"]]
    assert (call["status"], call["answer"]["ok"]) == (0, True)


def test_down_refuses_connections_and_comes_back(stage: Stage) -> None:
    slack = client(stage)
    slack.auth_test()
    stage.driver.fault("down", seconds=0.7)
    with pytest.raises(OSError, match="refused"):
        slack.auth_test()
    stage.driver.wait_for(stage.driver.channels, 5)
    slack.auth_test()


def test_everything_received_is_kept_but_the_token_in_its_header(stage: Stage) -> None:
    slack = client(stage)
    posted(stage, "approve")
    with pytest.raises(SlackApiError, match="unknown_method"):
        slack.api_call("chat.sing", params={"leak": "canary-query"})
    requests.post(f"{stage.workspace.url}/nowhere", data="canary-elsewhere", timeout=5)
    stage.driver.command("general", "/signalbox canary-answer", user=ANA.id)
    received = stage.driver.received()
    for word in ("card", "canary-query", "canary-elsewhere", "You said canary-answer"):
        assert word in received, word
    assert TOKEN not in received


def test_private_channels_are_seen_by_their_members_only(stage: Stage) -> None:
    slack = client(stage)
    channel = str(slack.conversations_create(name="quiet", is_private=True)["channel"]["id"])
    with pytest.raises(DriverError, match="sees no channel"):
        stage.driver.join(channel, user=ANA.id)
    slack.conversations_invite(channel=channel, users=ANA.id)
    stage.driver.say(channel, "here", user=ANA.id)
    assert stage.driver.messages("quiet")[-1]["text"] == "here"


def test_who_is_not_in_a_channel_cannot_write_there(stage: Stage) -> None:
    channel = posted(stage, "approve")
    with pytest.raises(DriverError, match="join it first"):
        stage.driver.say(channel, "x", user=ANA.id)
    stage.driver.join(channel, user=ANA.id)
    assert stage.driver.say(channel, "x", user=ANA.id)


@pytest.mark.parametrize("path", ["/driver/say", "/page/do"])
def test_another_page_cannot_act_here(stage: Stage, path: str) -> None:
    url = stage.workspace.url + path
    body = {"as": ANA.id, "act": "type", "user": ANA.id, "channel": "general", "text": "forged"}
    elsewhere = {"Origin": "http://evil.example"}
    rebound = {"Host": "evil.example"}
    for headers in (elsewhere, rebound):
        assert requests.post(url, json=body, headers=headers, timeout=5).status_code == 403
    simple = requests.post(url, data=json.dumps(body), headers={"Content-Type": "text/plain"}, timeout=5)
    assert simple.status_code == 403
    assert stage.driver.messages("general") == []
    assert requests.post(url, json=body, timeout=5).status_code == 200


@pytest.mark.parametrize("body", ["{", "[]", '{"act": 7}', '{"act": "click", "as": "U0ANA00001"}', '{"times": "x"}'])
@pytest.mark.parametrize("path", ["/driver/click", "/driver/submit", "/driver/event", "/page/do"])
def test_nonsense_is_refused_with_a_sentence(stage: Stage, path: str, body: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = requests.post(stage.workspace.url + path, data=body, headers=headers, timeout=5)
    assert answer.status_code == 409
    assert answer.json()["error"]


def test_the_page_is_served_with_a_policy_that_allows_no_inline_script(stage: Stage) -> None:
    page = requests.get(stage.workspace.url, timeout=5)
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert "<script>" not in page.text
    assert " style=" not in page.text
    assert " onclick" not in page.text


def make(state: Path) -> Workspace:
    return Workspace(signing_secret=SECRET, bot_token=TOKEN, state_file=state)


def test_channels_messages_and_received_text_survive_a_restart(tmp_path: Path) -> None:
    state = tmp_path / "workspace.json"
    with running(make(state)) as first:
        slack = WebClient(token=TOKEN, base_url=first.api_url, retry_handlers=[])
        channel = slack.conversations_create(name="inc-7")["channel"]["id"]
        before = slack.chat_postMessage(channel=channel, text="kept", blocks=[buttons("approve")])["ts"]
    with running(make(state)) as second:
        slack = WebClient(token=TOKEN, base_url=second.api_url, retry_handlers=[])
        (kept, *_) = slack.conversations_history(channel=channel)["messages"]
        assert (kept["ts"], kept["text"]) == (before, "kept")
        assert slack.chat_postMessage(channel=channel, text="new")["ts"] > before
        driver = Driver(second.url)
        assert "kept" in driver.received()
        assert [c["name"] for c in driver.channels()] == ["general", "inc-7"]
        driver.close()


def test_timestamps_go_on_after_the_last_one_even_when_the_clock_went_back(tmp_path: Path) -> None:
    state = tmp_path / "workspace.json"
    with running(make(state)) as first:
        first.people.say(ANA.id, "general", "from tomorrow")
    kept = json.loads(state.read_text())
    kept["channels"][0]["messages"][0]["ts"] = "9999999999.000001"
    state.write_text(json.dumps(kept))
    with running(make(state)) as second:
        assert second.people.say(ANA.id, "general", "now").ts == "9999999999.000002"


def test_a_state_file_of_another_kind_is_refused_and_left_alone(tmp_path: Path) -> None:
    state = tmp_path / "workspace.json"
    state.write_text('{"precious": true}')
    with pytest.raises(ValueError, match="move it away"):
        make(state)
    assert state.read_text() == '{"precious": true}'


def test_it_runs_as_a_program_and_stops_on_a_signal() -> None:
    argv = [sys.executable, "-m", "demo.workspace", "--port", "0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        line = program.stdout.readline()
        url = line.removeprefix("workspace: ").strip()
        assert url.startswith("http://127.0.0.1:")
        assert requests.get(url, timeout=5).status_code == 200
        program.send_signal(signal.SIGTERM)
        assert program.wait(timeout=10) == 0


def test_a_taken_port_is_said_plainly(stage: Stage) -> None:
    port = stage.workspace.url.rpartition(":")[2]
    argv = [sys.executable, "-m", "demo.workspace", "--port", port]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert f"cannot listen on port {port}: Address already in use; choose another --port" in done.stderr
