"""What `signalbox vm kill` says that a run does next is what it does, on both databases."""

from __future__ import annotations

from engine.commands import vm
from engine.commands.vm import Outlook
from engine.domain.ports import Ending, TaskResult
from engine.domain.states import AttemptState, RunState
from engine.runtime.census import Vm
from engine.runtime.domain_xml import Mark
from engine.store import runs
from tests.doubles.engine import ended
from tests.integration.engine.conftest import Box


def of(task: str, run: str, process: str = "test-1") -> Vm:
    """A VM that works for a task of a run."""
    mark = Mark(owner="o", process=process, task=task, run=run)
    return Vm(mark=mark, name=f"signalbox-{task}", state="running", memory_mb=384)


def killed(box: Box, leg: str, process: str = "test-1") -> Outlook:
    """What is said while `leg` is under way; then its VM is gone."""
    said: list[Outlook] = []

    def gone() -> TaskResult:
        with box.database.reading() as session:
            run = box.run()
            attempt = runs.started_attempt(session, run.id)
            assert attempt is not None
            said.append(vm._of_run(session, of(attempt.id, run.id, process)))
        return ended(Ending.VM_LOST, None, "the VM is gone")

    box.hypervisor.behaviour[leg] = gone
    box.fire()
    box.go()
    [outlook] = said
    return outlook


def test_a_reading_step_fails_and_the_run_asks_whether_to_retry(box: Box) -> None:
    outlook = killed(box, "diagnose")

    assert outlook == Outlook(True, "INC-1, diagnose: the attempt fails; the run halts and asks whether to retry.")
    assert box.run().state is RunState.HALTED
    assert box.run().attempts[-1].state is AttemptState.FAILED


def test_a_changing_step_has_an_unknown_outcome_and_is_not_killed_by_the_way(box: Box) -> None:
    outlook = killed(box, "staging")

    assert not outlook.certain
    assert outlook.text.startswith("INC-1, staging changes staging: its outcome is unknown")
    assert box.run().state is RunState.HALTED
    assert "Outcome unknown" in box.run().escalations[-1].why


def test_a_step_whose_worker_is_gone_is_told_apart(box: Box) -> None:
    outlook = killed(box, "diagnose", process="of-another-time")

    assert outlook.text == "INC-1, diagnose: its worker is gone; the step is tried again when another takes the run up."


def test_a_leftover_is_no_loss(box: Box) -> None:
    box.until_approval()
    with box.database.reading() as session:
        outlook = vm._of_run(session, of("left", box.run().id))

    assert outlook.certain
    assert "does not wait for it" in outlook.text


def test_what_another_database_may_know_is_not_killed_by_the_way(box: Box) -> None:
    """Whoever types it may have forgotten the worker's settings: the run may be a change under way."""
    with box.database.reading() as session:
        outlook = vm._of_run(session, of("somebody's", "no-run"))

    assert not outlook.certain
    assert "knows no such run" in outlook.text
    assert "SIGNALBOX_DATABASE_URL" in outlook.text
