"""Connections that a hostile guest asks for, feeds and leaves: none outlives its step or costs more than its window."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.ports import Reach
from engine.runtime.channel import Channel
from engine.runtime.egress import Egress
from engine.runtime.frames import Kind, encode
from engine.runtime.guest.wire import HEADER, WINDOW
from engine.runtime.tunnels import Tunnels
from tests.unit.runtime.scripted_guest import Said
from tests.unit.runtime.test_channel_with_a_hostile_guest import PAYLOADS


def test_a_connection_hears_nothing_but_what_belongs_to_it() -> None:
    """Frames of other kinds are not even counted there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        egress = Egress([Reach(host="a.test", port=1, address="127.0.0.1", address_port=port)])
        channel = Channel(lambda _: None, egress)
        channel.received(encode(Kind.OPEN, 2, {"host": "a.test", "port": 1}))
        for kind in (Kind.STDOUT, Kind.OK, Kind.FILE, Kind.EXIT):
            channel.received(encode(kind, 2, b"x" * 1000) * 5000)
        stream = channel._tunnels.stream(2)
        assert stream is not None
        assert len(stream._frames) == 0
        assert not channel.is_over
        channel.close()


def test_connections_that_hang_do_not_hold_the_end_of_the_step() -> None:
    """The far end never reads: each is cut, and the VM can be destroyed at once."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        port = server.getsockname()[1]
        egress = Egress([Reach(host="a.test", port=1, address="127.0.0.1", address_port=port)])
        opened: list[bytes] = []
        channel = Channel(opened.append, egress)
        for number in range(2, 42, 2):
            channel.received(encode(Kind.OPEN, number, {"host": "a.test", "port": 1}))
        accepted = [server.accept()[0] for _ in range(20)]
        _until(lambda: len(opened) >= 20)
        for number in range(2, 42, 2):
            _fill(channel, number)
        begun = time.monotonic()
        channel.close()
        assert time.monotonic() - begun < 2
        assert channel._tunnels._threads == {}
        for connection in accepted:
            connection.close()


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline


def _fill(channel: Channel, number: int) -> None:
    """Send until the far end takes no more and the window is full, and stays so."""
    stream = channel._tunnels.stream(number)
    assert stream is not None
    full_since = time.monotonic()
    while time.monotonic() - full_since < 0.1:
        if stream._unread + 32_000 <= WINDOW:
            channel.received(encode(Kind.DATA, number, b"x" * 32_000))
            full_since = time.monotonic()


def test_a_connection_that_is_asked_for_after_the_end_does_not_begin() -> None:
    """The reader's thread may be in the middle of it when the task ends."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        egress = Egress([Reach(host="a.test", port=1, address="127.0.0.1", address_port=port)])
        tunnels = Tunnels(egress, lambda _: None)
        tunnels.end("the task is over")
        tunnels.open(2, b'{"host": "a.test", "port": 1}')
        assert tunnels.stream(2) is None
        assert [row.error for row in egress.records()] == ["the task is over"]


@pytest.mark.parametrize("number", [0, 1, 3, 2**32 - 1])
def test_a_connection_with_a_number_of_ours_does_not_begin(number: int) -> None:
    """Its frames would be taken for the answers to a request."""
    egress = Egress([Reach(host="a.test", port=1, address="127.0.0.1", address_port=9)])
    tunnels = Tunnels(egress, lambda _: None)
    tunnels.open(number, b'{"host": "a.test", "port": 1}')
    assert tunnels.stream(number) is None
    assert [row.error for row in egress.records()] == ["no connection can have this number"]


OPENS = st.sampled_from([{"host": "a.test", "port": 1}, {"host": "b.test", "port": 1}, {"host": 1}, {}])
TUNNEL_FRAMES = st.one_of(
    st.builds(lambda request: (Kind.OPEN, json.dumps(request).encode()), OPENS),
    st.tuples(st.sampled_from([Kind.DATA, Kind.EOF, Kind.CLOSE, Kind.WINDOW, Kind.STDOUT, Kind.OPENED]), PAYLOADS),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), TUNNEL_FRAMES), max_size=30), st.integers(1, 400))
def test_connections_in_any_order_leave_nothing_behind(frames: list[tuple[int, Said]], cut: int) -> None:
    """Opened twice, closed before they were opened, fed after their end, all at once: none is left."""
    data = b"".join(HEADER.pack(kind, number, len(payload)) + payload for number, (kind, payload) in frames)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        port = server.getsockname()[1]
        egress = Egress([Reach(host="a.test", port=1, address="127.0.0.1", address_port=port)])
        channel = Channel(lambda _: None, egress)
        for start in range(0, len(data), cut):
            channel.received(data[start : start + cut])
        channel.close()
        assert channel._tunnels._threads == {}
        assert channel._tunnels._connections == {}
        assert len(egress.records()) <= sum(kind == Kind.OPEN for _, (kind, _) in frames)
