"""A guest that behaves as the real agent would until something is asked, and then says what the test wants."""

from __future__ import annotations

import hashlib
import json
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from engine.domain.ports import Reach, TaskResult, VmTask
from engine.runtime import session
from engine.runtime.channel import Channel
from engine.runtime.egress import Egress
from engine.runtime.frames import Frame, Kind, Parser
from engine.runtime.guest.wire import HEADER, VERSION
from tests.plugins_vm import Plain

Said = tuple[int, bytes]
ENDED = b'{"code": 0, "signal": null}'


def raw(kind: int, stream: int, payload: bytes) -> bytes:
    """The bytes of a frame of any kind."""
    return HEADER.pack(kind, stream, len(payload)) + payload


class Scripted:
    """Answers on the thread that asks. `odd`: whether the script is said to this frame; `saying`: on its stream."""

    def __init__(
        self, odd: Callable[[Frame], bool], saying: Sequence[Said], reaches: Iterable[Reach] = (), *, cut: bool = False
    ) -> None:
        self._odd, self._saying, self._cut = odd, saying, cut
        self.egress = Egress(reaches)
        self.channel = Channel(self._asked, self.egress)
        self.heard: list[Frame] = []
        self._parser = Parser()
        self._lock = threading.RLock()
        self._waiting: deque[bytes] = deque()
        self._speaking = False
        self._put = hashlib.sha256()
        self._say(raw(Kind.HELLO, 0, json.dumps({"version": VERSION}).encode()))

    def carry_out(self, work: VmTask) -> TaskResult:
        """The whole task; every reason to wait is short."""
        return session.carry_out(self.channel, self.egress, work, Plain(), lambda _: None, boot_timeout_s=1)

    def _asked(self, data: bytes) -> None:
        with self._lock:
            for frame in self._parser.feed(data):
                self.heard.append(frame)
                if self._odd(frame):
                    self._say(*(raw(kind, frame.stream, payload) for kind, payload in self._saying))
                    if self._cut:
                        self.channel.ended("the VM is gone")
                else:
                    self._say(*(raw(kind, frame.stream, payload) for kind, payload in self._proper(frame)))

    def _proper(self, frame: Frame) -> list[Said]:
        """What the agent says to a request."""
        if frame.kind in {Kind.SETUP, Kind.PING, Kind.REST, Kind.COLLECT}:
            return [(Kind.OK, b"")]
        if frame.kind == Kind.EXEC:
            return [(Kind.STDOUT, b"out\n"), (Kind.EXIT, ENDED)]
        if frame.kind != Kind.PUT:
            return []
        (size,) = struct.unpack_from("!I", frame.payload)
        meta = json.loads(frame.payload[4 : 4 + size])
        self._put = self._put if meta["append"] else hashlib.sha256()
        self._put.update(frame.payload[4 + size :])
        return [(Kind.OK, json.dumps({"sha256": self._put.hexdigest()} if meta["last"] else {}).encode())]

    def _say(self, *frames: bytes) -> None:
        """One after another, also when an answer makes the host ask at once."""
        self._waiting.extend(frames)
        if self._speaking:
            return
        self._speaking = True
        while self._waiting:
            self.channel.received(self._waiting.popleft())
        self._speaking = False
