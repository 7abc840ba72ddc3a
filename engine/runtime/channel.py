"""The host's end of a VM's one port: requests to the guest's agent, and the guest's connections. Knows no libvirt.

A transport calls `received` with bytes and `ended` once; it gives a `write` that never blocks. Everything that comes
from the guest is untrusted: what its agent would never say ends the channel with a reason (`BrokenProtocol`), frames
for unknown streams are ignored. Used by `engine.runtime.session`; the other end is `engine.runtime.guest.agent`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import secrets
import struct
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from engine.domain import archive
from engine.runtime.collected import Collected
from engine.runtime.egress import Egress
from engine.runtime.frames import BrokenProtocol, Frame, Kind, Parser, encode, json_object, text_of
from engine.runtime.guest.wire import PROXY_PORT, VERSION
from engine.runtime.streams import ChannelEnded, Stream
from engine.runtime.tunnels import Tunnels

PUT_CHUNK = 64 * 1024
ANSWER_TIMEOUT_S = 60.0
COLLECT_TIMEOUT_S = 120.0
MAX_FILES = 1000
SHA256 = re.compile(r"[0-9a-f]{64}")
PROXY = f"http://127.0.0.1:{PROXY_PORT}"
PROXY_VARIABLES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class GuestRefused(Exception):
    """The agent answered a request with an error."""


class Channel:
    """One VM's port. `received` and `ended` belong to the transport, the rest to the task's own thread."""

    def __init__(self, write: Callable[[bytes], None], egress: Egress) -> None:
        self._write, self._egress = write, egress
        self._parser = Parser()
        self._numbers = itertools.count(1, 2)
        self._lock = threading.Lock()
        self._hello = Stream(0, self._send)
        self._streams: dict[int, Stream] = {0: self._hello}
        self._tunnels = Tunnels(egress, write)
        self._greeted = False
        self._reason: str | None = None

    # -- transport

    def received(self, data: bytes) -> None:
        """Bytes from the guest. Never raises, never blocks."""
        if self._reason is not None:
            return
        try:
            for frame in self._parser.feed(data):
                self._dispatch(frame)
        except BrokenProtocol as error:
            self.ended(str(error))

    def ended(self, reason: str) -> None:
        """The line is gone, or must be treated so. The first reason counts."""
        with self._lock:
            self._reason = self._reason or reason
            streams = list(self._streams.values())
        for stream in streams:
            stream.end(self._reason)

    @property
    def greeted(self) -> bool:
        """Whether the agent is known to be up."""
        return self._greeted

    @property
    def is_over(self) -> bool:
        """Whether the line is gone."""
        return self._reason is not None

    def close(self) -> None:
        """The task is over: every connection of the guest is closed when this returns."""
        self.ended("the task is over")
        self._tunnels.end("the task is over")

    def _dispatch(self, frame: Frame) -> None:
        if frame.kind == Kind.OPEN:
            self._tunnels.open(frame.stream, frame.payload)
            return
        stream = self._streams.get(frame.stream) or self._tunnels.stream(frame.stream)
        if stream is not None:
            stream.take(frame)

    # -- requests

    def open(self) -> Stream:
        """A new stream; raises ChannelEnded when there is nobody to talk to."""
        with self._lock:
            if self._reason is not None:
                raise ChannelEnded(self._reason)
            stream = Stream(next(self._numbers), self._send)
            self._streams[stream.number] = stream
            return stream

    def hello(self, timeout: float) -> None:
        """Wait until the agent has started, unless it is known to; raises ChannelEnded, BrokenProtocol."""
        if self._greeted:
            return
        frame = self._hello.next(timeout)
        if frame is None:
            raise ChannelEnded(f"the VM did not start within {timeout:.0f} s")
        if frame.kind != Kind.HELLO or json_object(frame.payload).get("version") != VERSION:
            raise BrokenProtocol("the guest's agent is of another version: rebuild the image")
        self._greeted = True

    def ping(self, timeout: float) -> None:
        """Prove that the agent answers within so many seconds. Raises ChannelEnded, GuestRefused, BrokenProtocol."""
        self._ask(Kind.PING, b"", timeout)
        self._greeted = True

    def rest(self) -> None:
        """Have the guest wait for another host when this one leaves. Raises ChannelEnded, GuestRefused."""
        self._ask(Kind.REST, b"")

    def grant(self, egress: Egress) -> None:
        """From here on the guest may reach what this says; until here it was granted nothing."""
        before, self._egress, self._tunnels = self._tunnels, egress, Tunnels(egress, self._write)
        before.end("the task begins")

    def set_up(self, *, lifetime_s: float, dies_alone: bool, processes: int = 256, disk_mb: int = 0) -> None:
        """Entropy, clock, identity, limits, egress listeners. Raises ChannelEnded, GuestRefused."""
        listeners = self._egress.listeners()
        machine_id = uuid.uuid4().hex
        self._ask(
            Kind.SETUP,
            {
                "seed": secrets.token_hex(64),
                "time": time.time(),
                "boot_id": str(uuid.uuid4()),
                "machine_id": machine_id,
                "hostname": f"step-{machine_id[:8]}",
                "limits": {"processes": processes, "disk_mb": disk_mb},
                "egress": listeners,
                "proxy": bool(listeners),
                "env": dict.fromkeys(PROXY_VARIABLES, PROXY) if listeners else {},
                "lifetime_s": lifetime_s,
                "dies_alone": dies_alone,
            },
        )

    def put(self, path: str, content: bytes, mode: int) -> str:
        """Write one file; returns its digest as the guest read it back.

        Raises ChannelEnded, GuestRefused, BrokenProtocol.
        """
        archive.check_absolute(path)
        answer: dict[str, Any] = {}
        for start in range(0, max(len(content), 1), PUT_CHUNK):
            last = start + PUT_CHUNK >= len(content)
            meta = json.dumps({"path": path, "mode": mode, "append": start > 0, "last": last}).encode()
            answer = self._ask(Kind.PUT, struct.pack("!I", len(meta)) + meta + content[start : start + PUT_CHUNK])
        told = answer.get("sha256")
        if not isinstance(told, str) or not SHA256.fullmatch(told):
            raise BrokenProtocol(f"the guest told no digest of {path}")
        return f"sha256:{told}"

    def execute(self, stream: Stream, argv: tuple[str, ...], env: Mapping[str, str], folders: tuple[str, ...]) -> None:
        """Start the command. Its stream carries STDOUT, STDERR and one EXIT, and takes STDIN, EOF, KILL."""
        request = {"argv": list(argv), "env": dict(env), "cwd": "/step", "folders": list(folders)}
        self._write(encode(Kind.EXEC, stream.number, request))

    def signal(self, stream: Stream, number: int) -> None:
        """Send a signal to the command's process group."""
        self._write(encode(Kind.KILL, stream.number, {"signal": number}))

    def end_of_input(self, stream: Stream) -> None:
        """Close the command's standard input."""
        self._write(encode(Kind.EOF, stream.number))

    def collect(self, folder: str, limit: int) -> dict[str, bytes]:
        """Every regular file under a guest folder, by path. Raises ChannelEnded, GuestRefused, BrokenProtocol."""
        stream = self.open()
        request = {"path": folder, "max_files": MAX_FILES, "max_bytes": limit}
        self._write(encode(Kind.COLLECT, stream.number, request))
        deadline = time.monotonic() + COLLECT_TIMEOUT_S
        collected = Collected(MAX_FILES, limit)
        while (frame := stream.answer(max(0.0, deadline - time.monotonic()))).kind != Kind.OK:
            if frame.kind == Kind.ERR:
                raise GuestRefused(_error(frame.payload))
            collected.take(frame)
            stream.acknowledge(frame)
        self.forget(stream)
        return collected.files()

    def _ask(self, kind: Kind, payload: bytes | dict[str, Any], timeout: float | None = None) -> dict[str, Any]:
        stream = self.open()
        self._write(encode(kind, stream.number, payload))
        frame = stream.answer(ANSWER_TIMEOUT_S if timeout is None else timeout)
        self.forget(stream)
        if frame.kind == Kind.ERR:
            raise GuestRefused(_error(frame.payload))
        if frame.kind != Kind.OK:
            raise BrokenProtocol("the guest answered a request with something else")
        return json_object(frame.payload or b"{}")

    def forget(self, stream: Stream) -> None:
        """Nobody waits for this stream any more; who still feeds it, stops."""
        with self._lock:
            self._streams.pop(stream.number, None)
        stream.end("the request is over")

    def _send(self, kind: Kind, number: int, payload: bytes) -> None:
        self._write(encode(kind, number, payload))


def digest_of(content: bytes) -> str:
    """What `put` must return for these bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _error(payload: bytes) -> str:
    return text_of(json_object(payload).get("error"))
