"""Bodies that real systems sent, with one engineer's expected reading of each; they stay outside the repository."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from engine.triggers.alertmanager import START_UNKNOWN, AlertmanagerTrigger

REPOSITORY = Path(__file__).parents[3]
PAYLOADS = Path(os.environ.get("SIGNALBOX_PAYLOADS", REPOSITORY / "../shared/payloads")).resolve()
BODIES = sorted(PAYLOADS.glob("alertmanager*/*.json"))


def in_milliseconds(text: str) -> datetime:
    return datetime.fromisoformat(text)


def cut_to_milliseconds(instant: datetime) -> datetime:
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


def test_all_eleven_bodies_are_there_or_this_says_that_they_are_not() -> None:
    """The one skip of this project: third-party data that may not be copied into the repository."""
    if not BODIES:
        pytest.skip(f"no alertmanager payloads in {PAYLOADS}: set SIGNALBOX_PAYLOADS to the folder that has them")
    assert len(BODIES) == 11


@pytest.mark.parametrize("path", BODIES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_real_body_reads_as_expected(path: Path) -> None:
    expected = json.loads((PAYLOADS / "expected" / path.parent.name / path.name).read_text())

    alerts = AlertmanagerTrigger(("t",)).parse(path.read_bytes())

    assert len(alerts) == len(expected["alerts"])
    for alert, wanted in zip(alerts, expected["alerts"], strict=True):
        seen: dict[str, Any] = {
            "fingerprint": alert.fingerprint,
            "status": alert.status,
            "severity": alert.severity,
            "title": alert.title,
            "link": alert.link,
            "starts_at": None if alert.starts_at == START_UNKNOWN else cut_to_milliseconds(alert.starts_at),
            "ends_at": alert.ends_at and cut_to_milliseconds(alert.ends_at),
        }
        assert seen == {
            "fingerprint": wanted["fingerprint"],
            "status": wanted["status"],
            "severity": wanted["severity"],
            "title": wanted["title"],
            "link": wanted["links"][0] if wanted["links"] else None,
            "starts_at": wanted["starts_at"] and in_milliseconds(wanted["starts_at"]),
            "ends_at": wanted["ends_at"] and in_milliseconds(wanted["ends_at"]),
        }
        if expected["group"] is not None:
            assert alert.group_key == str(expected["group"]["group_key"])


@pytest.mark.parametrize("path", BODIES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_fingerprint_of_a_real_body_is_the_one_that_we_compute(path: Path) -> None:
    body = json.loads(path.read_text())
    given = [alert.get("fingerprint") for alert in body["alerts"]]
    for alert in body["alerts"]:
        alert.pop("fingerprint", None)

    computed = AlertmanagerTrigger(("t",)).parse(json.dumps(body).encode())

    assert all(told in (None, alert.fingerprint) for told, alert in zip(given, computed, strict=True))
