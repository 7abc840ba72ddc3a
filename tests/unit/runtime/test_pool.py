"""The pool's rules, with machines that are none: how many it keeps, what it hands out, when it gives way."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from engine.domain.errors import Unavailable
from engine.runtime import pool as pool_module
from engine.runtime.channel import Channel
from engine.runtime.domain_xml import Mark
from engine.runtime.egress import Egress
from engine.runtime.host import Host
from engine.runtime.machine import Machine, Make, Workshop
from engine.runtime.memory import Memory
from engine.runtime.pool import Pool

NOTHING = Egress(())
READING = Make(image="step", signature="s", memory_mb=384, kvm=True, outlives_worker=False)
CHANGING = Make(image="step", signature="s", memory_mb=384, kvm=True, outlives_worker=True)


class Toy(Machine):
    """A machine of which nothing exists."""

    def __init__(self, make: Make, *, wakes: bool = True) -> None:
        super().__init__(Host("test:///none"), make)
        self.works_for: Mark | None = None
        self.ended = False
        self._wakes = wakes

    def wake(self) -> None:
        if not self._wakes:
            raise Unavailable("it did not wake up")

    def work_for(self, mark: Mark, egress: Egress) -> None:
        self.works_for = mark

    def end(self) -> bool:
        self.ended = True
        return True


@dataclass
class Toys(Workshop):
    """Makes them. `holds`: nothing is finished while it is set; `fails`: nothing at all."""

    made: list[Toy] = field(default_factory=list)
    wake: bool = True
    fails: bool = False
    current: bool = True
    holds: threading.Event = field(default_factory=threading.Event)

    def mark(self, task: str, run: str) -> Mark:
        return Mark(owner="o", process="p", task=task, run=run)

    def is_current(self, make: Make) -> bool:
        return self.current

    def for_the_pool(self, make: Make, boot_timeout_s: float, attend: Callable[[Channel], None]) -> Machine:
        if self.fails:
            raise Unavailable("libvirt is away")
        attend(channel := Channel(lambda _: None, NOTHING))
        while self.holds.is_set():
            if channel.is_over:
                raise Unavailable("its line was given up")
            threading.Event().wait(0.005)
        self.made.append(Toy(make, wakes=self.wake))
        return self.made[-1]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "LOOKED_AGAIN_S", 0.01)
    monkeypatch.setattr(pool_module, "AFTER_A_FAILURE_S", (0.05, 0.1))


@dataclass
class Box:
    """A pool and its toys."""

    toys: Toys = field(default_factory=Toys)
    memory: Memory = field(default_factory=lambda: Memory(100_000, lambda: 1 << 20))
    pool: Pool = field(init=False)

    def __post_init__(self) -> None:
        self.pool = Pool(self.toys, self.memory, 3)

    def work(self, count: int, make: Make = READING) -> None:
        """So many tasks at once, and over."""
        with contextlib.ExitStack() as stack:
            for _ in range(count):
                stack.enter_context(self.pool.at_work(make))

    def waits(self, count: int) -> None:
        until(lambda: self.pool.waiting() == count)


@pytest.fixture
def box() -> Iterator[Box]:
    made = Box()
    yield made
    made.toys.holds.clear()
    made.pool.close()
    assert all(toy.ended or toy.works_for for toy in made.toys.made), "nothing waits after the end"


def until(condition: Callable[[], object]) -> None:
    """Wait on a condition with a deadline."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


def test_as_many_wait_as_were_at_work_at_once_and_never_more_than_the_setting(box: Box) -> None:
    box.work(2)
    box.waits(2)
    box.work(9)
    box.waits(3)


def test_when_it_gets_quiet_one_of_each_make_stays(box: Box) -> None:
    box.pool.lately_s = 0.3
    box.work(3)
    box.waits(3)
    box.waits(1)
    assert sum(toy.ended for toy in box.toys.made) == 2


def test_without_a_setting_there_is_no_pool() -> None:
    pool = Pool(Toys(), Memory(1000, lambda: 1 << 20), 0)
    pool.expect(READING)
    assert pool._thread is None
    assert pool.take(READING, "t", "r", NOTHING) is None


def test_one_is_taken_once_works_for_its_task_and_takes_its_memory_along(box: Box) -> None:
    box.pool.expect(READING)
    box.waits(1)
    taken = box.pool.take(READING, "task-1", "run-1", NOTHING)
    assert taken is not None
    machine, room = taken
    assert isinstance(machine, Toy)
    assert (machine.works_for, room.run) == (Mark(owner="o", process="p", task="task-1", run="run-1"), "run-1")
    box.waits(1)
    again = box.pool.take(READING, "task-2", "run-1", NOTHING)
    assert again is not None
    assert again[0] is not machine


def test_a_changing_step_never_gets_one_that_dies_with_our_connection(box: Box) -> None:
    box.pool.expect(READING)
    box.waits(1)
    assert box.pool.take(CHANGING, "t", "r", NOTHING) is None


def test_one_that_does_not_wake_up_is_destroyed_and_the_next_one_is_tried(box: Box) -> None:
    box.toys.wake = False
    box.work(2)
    box.waits(2)
    box.toys.holds.set()
    assert box.pool.take(READING, "t", "r", NOTHING) is None
    assert [toy.ended for toy in box.toys.made] == [True, True]
    until(lambda: len(box.memory._rooms) <= 1)


def test_one_that_is_dead_too_old_or_of_another_image_is_replaced(box: Box) -> None:
    box.pool.expect(READING)
    box.waits(1)
    box.toys.made[0].channel.ended("the VM is gone")
    until(lambda: len(box.toys.made) == 2 and box.pool.waiting() == 1)
    box.toys.made[1].born_at -= box.pool.keeps_s
    until(lambda: len(box.toys.made) == 3 and box.pool.waiting() == 1)
    assert [toy.ended for toy in box.toys.made] == [True, True, False]
    box.toys.current = False
    box.waits(0)
    assert box.toys.made[2].ended


def test_the_oldest_is_given_up_first_and_its_memory_is_free(box: Box) -> None:
    box.work(2)
    box.waits(2)
    used = box.memory._used()
    box.pool.most = 1
    box.toys.holds.set()
    assert box.pool.give_up_one() is True
    assert box.toys.made[0].ended
    until(lambda: box.memory._used() <= used - READING.cost_mb)


def test_nothing_is_made_while_a_task_waits_for_its_own_vm_but_not_for_ever(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = threading.Event()
    busy.set()
    box.pool.busy = busy.is_set
    looked = threading.Event()
    monkeypatch.setattr(box.pool.__class__, "_add", _noted(Pool._add, looked))
    box.pool.expect(READING)
    assert not looked.wait(0.3)
    busy.clear()
    box.waits(1)
    busy.set()
    monkeypatch.setattr(pool_module, "GIVES_WAY_S", 0.1)
    box.work(2)
    box.waits(2)


def _noted(add: Callable[[Pool, Make], bool], looked: threading.Event) -> Callable[[Pool, Make], bool]:
    def noted(self: Pool, make: Make) -> bool:
        looked.set()
        return add(self, make)

    return noted


def test_after_a_failure_it_pauses_tries_again_and_recovers(box: Box) -> None:
    box.toys.fails = True
    box.pool.expect(READING)
    until(lambda: box.pool._failures >= 2)
    assert box.memory._used() == 0
    box.toys.fails = False
    box.waits(1)
    assert box.pool._failures == 0


def test_the_end_does_not_wait_for_one_that_is_being_made(box: Box) -> None:
    """Its line is given up, and its memory is free."""
    box.toys.holds.set()
    box.pool.expect(READING)
    until(lambda: box.pool._making is not None)
    box.pool.close()
    assert box.toys.made == []
    assert box.memory._used() == 0
