"""A step of an agent is played as any other: it ends in every way, and nothing else becomes possible by it."""

from __future__ import annotations

import pytest

from engine.domain.agent import Guest
from engine.domain.errors import Unavailable
from engine.domain.ports import Ending, VmTask
from engine.domain.runners import Agents, Attends
from engine.simulation.agents import NoGuest, SimulatedAgents
from engine.simulation.explore import simulate
from engine.simulation.outside import AsItIs, SimulatedVms, Will
from engine.simulation.stage import Stage
from engine.store.memory import memory
from tests.doubles.agents import nowhere
from tests.integration.simulation.short import INPUTS, by_an_agent, short
from tests.unit.runtime.orders import STEP, order

MOST = 150


def test_an_agents_step_takes_the_paths_of_any_other() -> None:
    agents, scripts = (simulate(snapshot, INPUTS, MOST) for snapshot in (by_an_agent(), short()))

    assert agents.violations == []
    assert len(agents.edges) >= MOST
    assert [str(edge) for edge in agents.edges] == [str(edge) for edge in scripts.edges]


@pytest.mark.parametrize("will", [Will(), Will(code=1), Will(ending=Ending.TIMED_OUT)], ids=str)
def test_an_attended_vm_does_what_was_chosen_and_is_worked_in_only_if_it_lives(will: Will) -> None:
    with memory() as database:
        stage = Stage(database, by_an_agent(), INPUTS)
        stage.outside.will = will
        stage.outside.contents["a"] = "content"
        task = VmTask(id="a", run_id="r", image="step", argv=("diagnose",), timeout_s=60)
        guests: list[Guest] = []
        vms = SimulatedVms(stage.outside)
        result = vms.attend(task, AsItIs(), lambda _: None, guests.append)

    assert isinstance(vms, Attends)
    assert (result.ending, result.code) == (will.ending, will.code if will.ending is Ending.EXITED else None)
    assert len(guests) == (1 if will == Will() else 0)


def test_agents_of_a_simulation_are_agents_and_need_no_vm() -> None:
    agents: Agents = SimulatedAgents()

    with agents.opened(order(STEP), nowhere) as reaches:
        assert reaches == ()
    for act in (
        lambda: NoGuest().run(("x",), 1, 1),
        lambda: NoGuest().read("/x", 1),
        lambda: NoGuest().write("/x", b""),
    ):
        with pytest.raises(Unavailable):
            act()
