"""What is done and found on the machine itself, on both databases, while Signalbox runs on them."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from engine import doctor
from engine.cli import cli
from engine.domain.states import RunState
from engine.settings import load
from engine.store import models
from tests.integration.engine.conftest import Box


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that is ours alone."""
    made = tmp_path / "home"
    made.mkdir(mode=0o700)
    return made


def type_in(url: str, home: Path, *words: str) -> Result:
    """A command, with this database and this home."""
    variables = {"SIGNALBOX_DATABASE_URL": url, "SIGNALBOX_HOME": str(home), "LOGNAME": "ops"}
    return CliRunner().invoke(cli, words, env=variables)


def found(url: str, home: Path) -> dict[str, doctor.Finding]:
    """What the doctor says of the database and who works on it, by part."""
    names = {"HOME": str(home), "DATABASE_URL": url, "RUNBOOKS": str(home / "runbooks")}
    settings = load({f"SIGNALBOX_{name}": value for name, value in names.items()})
    first = itertools.takewhile(lambda each: each.part != "runbooks", doctor.examine(settings, {}))
    return {finding.part: finding for finding in first}


def test_the_kill_switch_thrown_on_the_machine_holds_for_whoever_drives(box: Box, url: str, home: Path) -> None:
    thrown = type_in(url, home, "kill-switch", "on", "--reason", "a flood")
    box.fire()
    box.go()
    stopped = box.run()
    switch = box.service.kill_switch()
    lifted = type_in(url, home, "kill-switch", "off")
    box.go()

    assert (thrown.exit_code, lifted.exit_code) == (0, 0), thrown.output + lifted.output
    assert switch.by is not None
    assert (switch.on, switch.by.id, switch.by.name, switch.reason) == (True, "cli:ops", "ops", "a flood")
    assert stopped.state is RunState.QUEUED
    assert "ops threw: a flood" in stopped.waits_for
    assert box.run().state is RunState.AWAITING_APPROVAL


def test_doctor_finds_a_kill_switch_that_is_on_and_says_how_to_let_things_go_on(box: Box, url: str, home: Path) -> None:
    before = found(url, home)["kill-switch"]
    type_in(url, home, "kill-switch", "on", "--reason", "a flood")
    after = found(url, home)["kill-switch"]

    assert before.well
    assert not after.well
    assert "thrown by ops" in after.text
    assert "a flood" in after.text
    assert "signalbox kill-switch off" in after.remedy


def test_doctor_finds_a_runbook_that_no_alert_starts_until_it_is_activated(box: Box, url: str, home: Path) -> None:
    names = {"HOME": str(home), "DATABASE_URL": url, "RUNBOOKS": str(home / "runbooks"), "IMAGES": str(home)}
    variables = {f"SIGNALBOX_{name}": value for name, value in names.items()} | {"LOGNAME": "ops"}

    def dormant() -> list[doctor.Finding]:
        looks = doctor.examine(load({key: value for key, value in variables.items() if key != "LOGNAME"}), {})
        here = itertools.takewhile(
            lambda each: each.part in {"configuration", "database", "kill-switch", "workers", "runbooks"}, looks
        )
        return [finding for finding in here if "activated" in finding.text]

    made = CliRunner().invoke(cli, ["runbook", "new", "queue-stuck"], env=variables)
    [finding] = dormant()
    done = CliRunner().invoke(cli, ["runbook", "activate", "queue-stuck"], env=variables)

    assert (made.exit_code, done.exit_code) == (0, 0), made.output + done.output
    assert not finding.well
    assert "signalbox runbook activate queue-stuck" in finding.remedy
    assert dormant() == []


def test_doctor_finds_a_pool_that_nobody_drives(box: Box, url: str, home: Path) -> None:
    """On SQLite one process does everything, so there is nobody to miss."""
    box.fire()
    alive = found(url, home).get("workers")
    with box.database.transaction() as session:
        session.execute(sa.update(models.Worker).values(alive_until=datetime(2000, 1, 1, tzinfo=UTC)))
    silent = found(url, home).get("workers")

    if not box.database.is_shared:
        assert alive is silent is None
        return
    assert alive is not None
    assert silent is not None
    assert alive.well
    assert alive.text == "pool default: 1 worker alive"
    assert not silent.well
    assert "signalbox worker --pool default" in silent.remedy
