"""`signalbox up`: one process a home, whatever is missing in its configuration; and how it ends."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import requests

from tests.integration.cli.conftest import Signalbox

pytestmark = pytest.mark.timeout(240)

BODY = {
    "version": "4",
    "groupKey": '{}:{alertname="Strange"}',
    "truncatedAlerts": 0,
    "status": "firing",
    "receiver": "signalbox",
    "groupLabels": {"alertname": "Strange"},
    "commonLabels": {"alertname": "Strange"},
    "commonAnnotations": {},
    "externalURL": "http://alertmanager.example",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "Strange", "severity": "warning"},
            "annotations": {"summary": "nobody has seen this before"},
            "startsAt": "2026-01-01T10:00:00Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "",
            "fingerprint": "0123456789abcdef",
        }
    ],
}


def test_a_second_one_on_the_same_home_is_refused_and_harms_nothing(signalbox: Signalbox) -> None:
    with signalbox.up():
        second = Signalbox(signalbox.folder)
        second.set["HOME"] = signalbox.set["HOME"]
        said = second("up")

        assert said.code == 1
        assert "Traceback" not in said.err
        assert f"another Signalbox runs on {signalbox.set['HOME']}" in said.err
        assert "-> stop it, or set SIGNALBOX_HOME" in said.err
        assert requests.get(signalbox.url, timeout=10).ok


def test_a_port_that_is_taken_is_said_in_words_and_nothing_is_left_running(signalbox: Signalbox) -> None:
    with signalbox.up():
        second = Signalbox(signalbox.folder)
        second.set |= {"HOME": str(signalbox.folder / "other"), "LISTEN": signalbox.set["LISTEN"]}
        said = second("up")

        assert said.code == 1
        assert "Traceback" not in said.err
        assert signalbox.set["LISTEN"] in said.err
        assert "SIGNALBOX_LISTEN" in said.err
    with second.up():
        pass


def test_without_approvers_and_slack_it_starts_and_both_the_page_and_the_doctor_say_so(signalbox: Signalbox) -> None:
    """An alert is kept all the same: nothing is lost while somebody mends the configuration."""
    signalbox.set["ALERTMANAGER_TOKEN"] = "an-alert-token"
    file = signalbox.folder / "alert.json"
    file.write_text(json.dumps(BODY))
    with signalbox.up():
        health = requests.get(f"{signalbox.url}/healthz", timeout=10)
        sent = signalbox("alert", "send", str(file))
        again = signalbox("alert", "send", str(file))
        doctor = signalbox("doctor")
        incidents = wait_for_incident(signalbox)

    assert health.status_code == 503
    assert "SIGNALBOX_SLACK_BOT_TOKEN" in health.json()["slack"]
    assert (sent.code, sent.out) == (0, '202 {"reason": "accepted"}\n')
    assert (again.code, again.out) == (0, '200 {"reason": "known already"}\n')
    assert [row["state"] for row in incidents] == ["open"]
    assert doctor.code == 1
    assert "nobody may approve or decide" in doctor.out
    assert "not connected" in doctor.out


def wait_for_incident(signalbox: Signalbox) -> list[dict[str, object]]:
    """The incidents, once there is one."""
    deadline = time.monotonic() + 30
    while True:
        rows: list[dict[str, object]] = json.loads(signalbox("incident", "list", "--json").out)
        if rows or time.monotonic() > deadline:
            return rows


def test_it_ends_by_sigterm_with_its_openbao_and_starts_again(signalbox: Signalbox) -> None:
    for _ in range(2):
        with signalbox.up() as process:
            pass
        assert process.returncode == 0
        assert processes_of(signalbox) == []


def processes_of(signalbox: Signalbox) -> list[str]:
    """Command lines that name this home."""
    home = signalbox.set["HOME"].encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes()
        except OSError:
            continue  # it ended meanwhile
        if home in text:
            found.append(text.replace(b"\0", b" ").decode(errors="replace"))
    return found
