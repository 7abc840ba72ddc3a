"""Memory for VMs: never more than the budget or the machine has, and nobody starves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.errors import Unavailable
from engine.runtime.memory import KEPT_FREE_MB, Memory, Room

PLENTY = 1 << 20


def memory(budget: int, available: Callable[[], int] = lambda: PLENTY) -> Memory:
    return Memory(budget, available)


@dataclass
class Asker:
    """Asks for room in a thread."""

    memory: Memory
    run: str
    mb: int
    urgent: bool = False
    within_s: float = 20
    stop: threading.Event = field(default_factory=threading.Event)
    room: Room | None = None
    error: Unavailable | None = None

    def __post_init__(self) -> None:
        before = len(self.memory._queue)
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()
        until(lambda: len(self.memory._queue) > before or self.room or self.error)

    def _ask(self) -> None:
        try:
            self.room = self.memory.room(
                self.run, self.mb, urgent=self.urgent, stopped=self.stop.is_set, within_s=self.within_s
            )
        except Unavailable as error:
            self.error = error

    def end(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()


def until(condition: Callable[[], object]) -> None:
    """Wait on a condition with a deadline."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


def test_the_budget_is_kept_and_room_that_is_given_back_goes_to_who_waits() -> None:
    kept = memory(1000)
    first = kept.room("a", 600, within_s=1)
    waiting = Asker(kept, "b", 600)
    assert "1 waiting" in kept.shortage(600)
    assert "600 of 1000 MB" in kept.shortage(600)
    kept.release(first)
    waiting.end()
    assert waiting.room is not None
    assert kept.shortage(400) == ""


def test_what_never_fits_is_told_at_once_with_the_setting() -> None:
    with pytest.raises(Unavailable) as caught:
        memory(500).room("a", 501, within_s=60)
    assert "SIGNALBOX_VM_MEMORY_MB" in caught.value.remedy


def test_a_machine_that_has_less_than_the_budget_says_counts() -> None:
    """Others use memory, too: no VM is started into swap."""
    free = [KEPT_FREE_MB + 99]
    kept = memory(10_000, lambda: free[0])
    with pytest.raises(Unavailable, match="355 MB available"):
        kept.room("a", 100, within_s=0)
    free[0] += 1
    assert kept.room("a", 100, within_s=0).mb == 100


def test_a_wait_ends_in_time_and_says_what_was_missing() -> None:
    kept = memory(100)
    kept.room("a", 100, within_s=0)
    with pytest.raises(Unavailable, match="100 of 100 MB used by 1 VMs") as caught:
        kept.room("b", 50, within_s=0.05)
    assert caught.value.remedy
    assert kept.describe().endswith("0 wait")


def test_a_cancelled_wait_ends_at_once() -> None:
    kept = memory(100)
    kept.room("a", 100, within_s=0)
    waiting = Asker(kept, "b", 50, within_s=600)
    waiting.stop.set()
    kept.poke()
    waiting.end()
    assert "cancelled" in str(waiting.error)


def test_the_run_that_uses_least_goes_first_then_who_came_first() -> None:
    """Run a has one VM already and asked for three more before b and c asked for one each."""
    kept = memory(200)
    held = [kept.room("a", 100, within_s=0), kept.room("x", 100, within_s=0)]
    many = [Asker(kept, "a", 100) for _ in range(3)]
    b, c = Asker(kept, "b", 100), Asker(kept, "c", 100)
    kept.release(held.pop())
    b.end()
    assert [one.room for one in (*many, c)] == [None] * 4
    assert b.room is not None
    kept.release(b.room)
    c.end()
    assert [one.room for one in many] == [None] * 3
    for one in many:
        one.stop.set()
    kept.poke()


def test_a_change_that_a_person_approved_goes_before_all_that_only_read() -> None:
    kept = memory(100)
    held = kept.room("x", 100, within_s=0)
    reading, change = Asker(kept, "a", 100), Asker(kept, "x", 100, urgent=True)
    kept.release(held)
    change.end()
    assert (reading.room, change.room is not None) == (None, True)
    reading.stop.set()
    kept.poke()


def test_nobody_overtakes_a_large_one_that_is_first() -> None:
    kept = memory(100)
    held = [kept.room("x", 50, within_s=0), kept.room("y", 50, within_s=0)]
    large, small = Asker(kept, "a", 100), Asker(kept, "b", 50)
    kept.release(held.pop())
    assert small.room is None
    kept.release(held.pop())
    large.end()
    assert (large.room is not None, small.room) == (True, None)
    small.stop.set()
    kept.poke()


def test_vms_that_wait_in_the_pool_are_given_up_before_a_task_waits() -> None:
    kept = memory(100)
    pooled = kept.spare(80)
    assert pooled is not None

    def give_up() -> bool:
        kept.release(pooled)
        return True

    kept.give_up = give_up
    assert kept.shortage(100) == ""
    assert kept.room("a", 100, within_s=0).mb == 100
    assert kept.spare(1) is None


def test_the_pool_gets_nothing_while_a_task_waits() -> None:
    kept = memory(100)
    kept.room("a", 60, within_s=0)
    waiting = Asker(kept, "b", 60)
    assert kept.spare(10) is None
    waiting.stop.set()
    kept.poke()
    waiting.end()
    assert kept.spare(10) is not None


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 60), st.booleans()), max_size=30))
def test_whatever_is_asked_the_budget_is_never_exceeded(asked: list[tuple[str, int, bool]]) -> None:
    kept = memory(100)
    rooms: list[Room] = []
    for run, mb, back in asked:
        try:
            rooms.append(kept.room(run, mb, within_s=0))
        except Unavailable:
            assert sum(room.mb for room in rooms) + mb > 100
        if back and rooms:
            kept.release(rooms.pop())
        assert sum(room.mb for room in rooms) <= 100
