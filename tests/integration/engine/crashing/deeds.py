"""What processes, people and time do. Each is done to a world by one of its processes, and may fail on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engine.domain.alert import Severity
from engine.domain.errors import Unavailable
from engine.domain.incident import Person
from engine.domain.states import Decision
from tests.integration.engine.conftest import ANA, BEN
from tests.integration.engine.crashing.world import DIES, RUNBOOK, Deed, Process, World

IMAGE, SOURCE = b"the image", "the toy runbook, as reviewed"
SETTLING_S = (3, 20, 700, 4000, 100_000, 20, 20)
""" Time that passes at the end: beyond what is waited for, every VM, every deadline, and every question. """


def drive(world: World, process: Process) -> None:
    """The worker takes what was woken."""
    world.drive(process)


def one_round(world: World, process: Process) -> None:
    """What the worker's own threads do every second."""
    if process.worker.claim.id:
        process.worker._beat()
    process.worker._recover_then_reap()


def watch(world: World, process: Process) -> None:
    """What the watch does every second."""
    process.watch.drain()
    process.watch.look_at_the_clock()


def live(world: World, process: Process) -> None:
    """All that a process does by itself."""
    one_round(world, process)
    watch(world, process)
    drive(world, process)


def approve(world: World, process: Process, *, yes: bool = True, person: Person = ANA) -> None:
    """Somebody answers the oldest question that asks for a yes."""
    for row in world.look().pending()[:1]:
        process.service.approve(row.token, person, yes=yes)
        world.heard.answers.append((row.token, "approve" if yes else "reject"))


def decide(world: World, process: Process, decision: Decision, which: int = 0) -> None:
    """Somebody decides for a halted run, if that is open to them."""
    for row in world.look().open()[which : which + 1]:
        if decision.value in row.options:
            process.service.decide(row.token, BEN, decision)
            world.heard.answers.append((row.token, decision.value))


def put_off(world: World, process: Process) -> None:
    """Somebody gives the oldest questions more time."""
    seen = world.look()
    for token in [*(row.token for row in seen.pending()[:1]), *(row.token for row in seen.open()[:1])]:
        process.service.extend(token, ANA)


def abandon(world: World, process: Process) -> None:
    """Somebody ends the newest run."""
    for run in world.look().active()[-1:]:
        process.service.abandon(run.incident_number, ANA, "enough")


def declare(world: World, process: Process) -> None:
    """Somebody who may not approve it then opens an incident by hand."""
    process.service.declare(BEN, "it is slow", Severity.HIGH, RUNBOOK.name)


def throw_switch(world: World, process: Process) -> None:
    """Somebody stops everything, or lets it go on."""
    process.service.throw_kill_switch(BEN, on=not process.service.kill_switch().on, reason="to be sure")


def break_production(world: World, process: Process) -> None:
    """The change of production says that it did not work."""
    world.outside.plan = {"production": "exit 1"}
    world.drive(process)
    world.outside.plan = {}


def carry_on(world: World, process: Process) -> None:
    """People want it done: whatever stands in the way is answered; if there is nothing to do, there soon is."""
    if process.service.kill_switch().on:
        throw_switch(world, process)
    approve(world, process)
    for decision in (Decision.ROLL_BACK, Decision.RETRY):
        decide(world, process, decision)
    if not world.look().active():
        declare(world, process)


MEANWHILE: Mapping[str, Deed] = {
    "round": one_round,
    "drive": drive,
    DIES: drive,
    "watch": watch,
    "approve": approve,
    "reject": lambda world, process: approve(world, process, yes=False),
    "retry": lambda world, process: decide(world, process, Decision.RETRY),
    "roll back": lambda world, process: decide(world, process, Decision.ROLL_BACK),
    "take over": lambda world, process: decide(world, process, Decision.TAKE_OVER),
    "abandon": abandon,
    "declare": declare,
    "switch": throw_switch,
    "put off": put_off,
}


def vault(world: World, *, up: bool) -> None:
    """Vault goes away, or comes back."""
    world.outside.vault_down = None if up else Unavailable("Vault does not answer", "start it")


def libvirt(world: World, *, up: bool) -> None:
    """Libvirt goes away, or comes back."""
    world.outside.libvirt_down = None if up else Unavailable("libvirt does not answer", "start it")


def tamper(world: World, *, image: bytes = IMAGE, source: str = SOURCE) -> None:
    """The image, or the runbook on disk, is not what it was."""
    world.outside.image, world.shelf.source = image, source


CHANGES: Mapping[str, Callable[[World], None]] = {
    "the image changes": lambda world: tamper(world, image=b"another image"),
    "the runbook changes": lambda world: tamper(world, source="edited"),
    "all is as it was": tamper,
    "claims end": lambda world: world.claims_end(),
    "what the dead left works": lambda world: world.outside.orphans_work(),
}


def settle(world: World) -> None:
    """No more faults: what was down is back, and time passes beyond all that is waited for."""
    vault(world, up=True)
    libvirt(world, up=True)
    world.outside.plan.clear()
    world.claims_end()
    for seconds in SETTLING_S:
        for number in range(len(world.processes)):
            world.do(number, lambda process: live(world, process))
        world.clock.pass_time(seconds=seconds)
        world.outside.grow_older()
