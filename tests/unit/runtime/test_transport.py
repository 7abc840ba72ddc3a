"""The writer between channel and line: order, patience, an end when the guest does not read or the line is gone."""

from __future__ import annotations

import threading

import pytest

from engine.runtime import transport
from engine.runtime.transport import Transport


class Line:
    """Takes a few bytes at a time, and sometimes none; `stuck` takes nothing for ever."""

    def __init__(self, *, stuck: bool = False, broken: bool = False) -> None:
        self.got = b""
        self.closed = 0
        self.stuck, self.broken = stuck, broken
        self._calls = 0

    def send(self, data: bytes) -> int:
        if self.broken:
            raise OSError("libvirt went away")
        self._calls += 1
        taken = 0 if self.stuck or self._calls % 3 == 0 else min(len(data), 7)
        self.got += data[:taken]
        return taken

    def close(self) -> None:
        self.closed += 1


class Listener:
    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.heard = threading.Event()

    def ended(self, reason: str) -> None:
        self.reasons.append(reason)
        self.heard.set()


def test_frames_are_written_whole_and_in_order_also_those_from_before_the_line() -> None:
    """A line that takes seven bytes at a time, and every third time none."""
    made, line, listener = Transport(), Line(), Listener()
    made.write(b"before ")
    made.attach(line, listener)
    for number in range(50):
        made.write(b"frame %d " % number)
    expected = b"before " + b"".join(b"frame %d " % number for number in range(50))
    deadline = threading.Event()
    for _ in range(500):
        if line.got == expected:
            break
        deadline.wait(0.01)
    made.close()
    made.close()
    assert line.got == expected
    assert (line.closed, listener.reasons) == (1, [])


def test_a_line_that_is_gone_ends_the_channel() -> None:
    """With its reason."""
    made, listener = Transport(), Listener()
    made.attach(Line(broken=True), listener)
    made.write(b"x")
    assert listener.heard.wait(5)
    assert listener.reasons == ["the line to the VM is gone: libvirt went away"]
    made.close()


def test_a_guest_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before what waits for it fills the host's memory; and closing does not wait for it."""
    monkeypatch.setattr(transport, "MAX_WAITING", 1000)
    made, listener = Transport(), Listener()
    made.attach(Line(stuck=True), listener)
    for _ in range(5):
        made.write(b"x" * 400)
    assert listener.reasons[0] == "the guest does not read what it is sent"
    made.close()
    made.write(b"late")
