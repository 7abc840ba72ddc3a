"""`signalbox kill-switch`: what a person types when Slack is down."""

from __future__ import annotations

from tests.integration.cli.conftest import Signalbox
from tests.integration.cli.test_commands import clear


def test_the_kill_switch_is_thrown_on_the_machine_itself_and_stays_as_it_was_left(signalbox: Signalbox) -> None:
    unready = signalbox("kill-switch", "on")
    signalbox("migrate")
    before = signalbox("kill-switch")
    thrown = signalbox("kill-switch", "on", "--reason", "a flood of alerts")
    again, status = signalbox("kill-switch", "on"), signalbox("kill-switch", "status")
    back = signalbox("kill-switch", "off")

    assert unready.code == 1
    assert "signalbox migrate" in clear(unready.err)
    assert before.out == "off\n"
    assert thrown.out == status.out
    assert thrown.out.startswith("on, since ")
    assert thrown.out.endswith(": a flood of alerts\n")
    assert again.code == 1
    assert "on already" in clear(again.err)
    assert back.out.startswith("off, since ")
