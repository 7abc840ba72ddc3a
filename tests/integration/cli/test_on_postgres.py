"""`signalbox` on Postgres: migrated by its owner, served by `web`, driven by workers; or all of it by `up`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import requests

from tests.integration.cli.conftest import Signalbox
from tests.integration.cli.test_up import BODY, processes_of, wait_for_incident
from tests.services.postgres import Postgres

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def shared(signalbox: Signalbox, postgres: Postgres) -> Signalbox:
    """An installation on an empty database of a server that others may use too."""
    signalbox.set |= {"DATABASE_URL": postgres.new_database(), "ALERTMANAGER_TOKEN": "an-alert-token"}
    return signalbox


def send_an_alert(signalbox: Signalbox) -> None:
    file = signalbox.folder / "alert.json"
    file.write_text(json.dumps(BODY))
    assert signalbox("alert", "send", str(file)).code == 0


@pytest.mark.parametrize("verb", ["up", "web"])
def test_nothing_starts_before_the_owner_migrated(shared: Signalbox, verb: str) -> None:
    said = shared(verb)

    assert (said.code, "Traceback" in said.err) == (1, False)
    assert "the database is at revision none" in said.err
    assert "signalbox migrate" in said.err


@pytest.mark.parametrize("verb", ["up", "web"])
def test_it_takes_alerts_and_ends_by_sigterm(shared: Signalbox, verb: str) -> None:
    assert "postgresql is at revision" in shared("migrate").out
    with shared.up(verb) as process:
        send_an_alert(shared)
        assert [row["state"] for row in wait_for_incident(shared)] == ["open"]
        health = requests.get(f"{shared.url}/healthz", timeout=10).json()

    assert process.returncode == 0
    assert "libvirt" not in health or verb == "up", "who drives no runs needs no libvirt"
    assert processes_of(shared) == []


def test_two_webs_on_one_database_count_an_alert_once(shared: Signalbox, tmp_path: Path) -> None:
    shared("migrate")
    other = Signalbox(tmp_path / "other")
    other.folder.mkdir()
    other.set |= {name: shared.set[name] for name in ("DATABASE_URL", "ALERTMANAGER_TOKEN")}
    with shared.up("web"), other.up("web"):
        send_an_alert(shared)
        send_an_alert(other)
        assert len(wait_for_incident(shared)) == 1


def test_a_worker_without_a_vault_for_all_says_what_it_needs(shared: Signalbox) -> None:
    shared("migrate")
    said = shared("worker")

    assert (said.code, "Traceback" in said.err) == (1, False)
    assert "SIGNALBOX_VAULT_ADDR" in said.err
