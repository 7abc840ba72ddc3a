"""The tail of an output on its way to the database: bounded, coalesced, redacted as a whole, and never in the way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from engine.orchestration.live import KEPT_CHARACTERS, Tail
from engine.runtime.output import NoSecrets
from tests.doubles.engine import PlainRedactor


class Written:
    """What was written, in order. `wait_for` returns when a condition on it holds."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.times: list[float] = []
        self._changed = threading.Condition()

    def __call__(self, text: str) -> None:
        with self._changed:
            self.texts.append(text)
            self.times.append(time.monotonic())
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, 10)


def test_the_first_piece_is_written_at_once_and_the_rest_together_later() -> None:
    written = Written()
    tail = Tail(written, NoSecrets(), every_s=0.3)
    tail.hear("first\n")
    written.wait_for(lambda: len(written.texts) == 1)
    for number in range(1000):
        tail.hear(f"{number}\n")
    written.wait_for(lambda: written.texts[-1].endswith("999\n"))
    tail.close()

    assert written.texts[0] == "first\n"
    assert len(written.texts) <= 3
    assert written.times[1] - written.times[0] >= 0.3


def test_what_came_last_is_written_when_it_closes_without_waiting() -> None:
    written = Written()
    tail = Tail(written, NoSecrets(), every_s=60)
    tail.hear("a")
    written.wait_for(lambda: len(written.texts) == 1)
    tail.hear("b")
    tail.close()
    tail.hear("too late")

    assert written.texts == ["a", "ab"]


def test_nothing_is_written_where_nothing_is_printed() -> None:
    written = Written()
    tail = Tail(written, NoSecrets())
    tail.hear("")
    tail.close()

    assert written.texts == []
    assert tail._thread is None


def test_only_the_end_is_kept_in_whatever_pieces_it_comes() -> None:
    for piece in ("x", "x" * 1000, "x" * (3 * KEPT_CHARACTERS)):
        written = Written()
        tail = Tail(written, NoSecrets(), every_s=60)
        for _ in range(KEPT_CHARACTERS // len(piece) + 2):
            tail.hear(piece)
        tail.hear("end")
        assert tail._length < 2 * KEPT_CHARACTERS
        tail.close()

        assert len(written.texts[-1]) == KEPT_CHARACTERS
        assert written.texts[-1].endswith("xend")


def test_a_secret_that_two_streams_make_together_is_masked() -> None:
    """Each is harmless by itself, so each stream's own redactor lets it through."""
    written = Written()
    tail = Tail(written, PlainRedactor("hunter2"), every_s=60)
    tail.hear("of stdout: hunt")
    tail.hear("er2 of stderr")
    tail.close()

    assert "hunter2" not in written.texts[-1]
    assert written.texts[-1].endswith(" of stderr")


def test_a_database_that_hangs_does_not_hold_whoever_prints() -> None:
    hanging = threading.Event()
    tail = Tail(lambda _text: assert_woken(hanging), NoSecrets())
    begun = time.monotonic()
    for _ in range(100):
        tail.hear("x" * 10_000)

    assert time.monotonic() - begun < 1
    hanging.set()
    tail.close()


def assert_woken(event: threading.Event) -> None:
    assert event.wait(20)
