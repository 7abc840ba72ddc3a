"""Whatever a guest sends: the channel never raises, never hangs, never grows without bound, and says why it ended."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.ports import Ending, FileIn, Reach
from engine.runtime import channel as channel_module
from engine.runtime import session
from engine.runtime.channel import Channel, GuestRefused, digest_of
from engine.runtime.egress import MAX_ROWS, Egress
from engine.runtime.frames import MAX_FRAME, MAX_JSON, BrokenProtocol, Kind, encode
from engine.runtime.guest.wire import HEADER, VERSION, WINDOW
from engine.runtime.streams import CHUNK, MAX_UNCOUNTED, MAX_UNCOUNTED_BYTES, ChannelEnded
from engine.runtime.tunnels import MAX_TUNNELS
from tests.plugins_vm import Plain
from tests.unit.runtime.scripted_guest import Said, Scripted
from tests.unit.runtime.test_session_with_the_real_agent import task

KINDS = st.one_of(st.sampled_from([int(kind) for kind in Kind]), st.integers(0, 255))
TEXTS = [
    *(
        "",
        "{}",
        "[]",
        "null",
        "{",
        '{"error": null}',
        '{"error": "no"}',
        '{"code": 0}',
        '{"code": true}',
        "[" * 100_000,
    ),
    *('{"code": -1, "signal": 99}', '{"version": 1}', '{"path": "../x"}', '{"path": "x"}', '{"path": 7}'),
    *('{"code": true}', '{"host": "a.test", "port": 1}', '{"host": [], "port": {}}', '{"sha256": 1}'),
]
JSON = st.sampled_from(TEXTS).map(str.encode)
PAYLOADS = st.one_of(JSON, st.binary(max_size=300), st.integers(0, 2**32 - 1).map(lambda n: struct.pack("!I", n)))
FRAMES = st.builds(
    lambda kind, stream, payload: HEADER.pack(kind, stream, len(payload)) + payload,
    KINDS,
    st.integers(0, 12),
    PAYLOADS,
)
HELLO = encode(Kind.HELLO, 0, {"version": VERSION})


@settings(max_examples=300, deadline=None)
@given(st.lists(FRAMES, max_size=12).map(b"".join), st.integers(1, 700))
def test_random_frames_never_get_out_of_the_channel(data: bytes, cut: int) -> None:
    """In whatever pieces they arrive."""
    channel = Channel(lambda _: None, Egress(()))
    for start in range(0, len(data), cut):
        channel.received(data[start : start + cut])
    channel.close()
    with pytest.raises(ChannelEnded):
        channel.open()


@settings(max_examples=200, deadline=None)
@given(st.lists(FRAMES, max_size=25))
def test_a_whole_task_against_random_answers_ends_with_a_reason(frames: list[bytes]) -> None:
    """Each thing that the host says is answered by the next random frame; then the line is cut."""
    answers = iter(frames)

    def guest(_: bytes) -> None:
        answer = next(answers, None)
        if answer is None:
            channel.ended("the VM is gone")
        else:
            channel.received(answer)

    egress = Egress(())
    channel = Channel(guest, egress)
    channel.received(HELLO)
    work = task("true", collect="/step/out", timeout_s=0.02)
    with _impatient():
        result = session.carry_out(channel, egress, work, Plain(), lambda _: None, boot_timeout_s=0.1)
    assert result.ending in Ending
    assert result.reason or result.ending is Ending.EXITED


def test_a_frame_that_is_too_long_ends_the_channel_before_it_is_buffered() -> None:
    """The length alone is enough."""
    channel = Channel(lambda _: None, Egress(()))
    channel.received(HEADER.pack(Kind.DATA, 1, MAX_FRAME + 1))
    with pytest.raises(ChannelEnded, match="announced a frame"):
        channel.hello(1)


def test_bad_json_ends_the_channel_with_a_clear_reason() -> None:
    """Here in an OPEN, which the reader thread parses itself."""
    channel = Channel(lambda _: None, Egress(()))
    channel.received(encode(Kind.OPEN, 2, b"not json"))
    with pytest.raises(ChannelEnded, match="not JSON"):
        channel.open()


def test_frames_for_unknown_streams_are_ignored() -> None:
    """Nothing is kept of them."""
    channel = Channel(lambda _: None, Egress(()))
    for number in (1, 2, 99, 2**32 - 1):
        channel.received(encode(Kind.DATA, number, b"x"))
    channel.received(HELLO)
    channel.hello(1)


@pytest.mark.parametrize(
    ("frame", "count"),
    [
        (encode(Kind.STDOUT, 1, b"x" * 65536), WINDOW // 65536 + 1),
        (encode(Kind.OK, 1, b"{}"), MAX_UNCOUNTED + 1),
        (encode(Kind.WINDOW, 1, struct.pack("!I", 1)), 1),
        (encode(Kind.WINDOW, 1, b"odd"), 1),
        (HELLO, MAX_UNCOUNTED + 1),
    ],
    ids=["output beyond the window", "answers without end", "credit never given", "odd credit", "hello without end"],
)
def test_a_guest_that_breaks_flow_control_is_cut_off(frame: bytes, count: int) -> None:
    """So nothing piles up on the host."""
    channel = Channel(lambda _: None, Egress(()))
    channel.open()
    for _ in range(count):
        channel.received(frame)
    with pytest.raises(ChannelEnded, match=r"flow control|window|granted"):
        channel.open()


def test_output_in_single_bytes_is_no_attack() -> None:
    """A program may print byte by byte, as long as it stays in the window."""
    channel = Channel(lambda _: None, Egress(()))
    stream = channel.open()
    channel.received(encode(Kind.STDOUT, 1, b"x") * 20_000)
    taken = 0
    while frame := stream.next(0):
        taken += len(frame.payload)
        stream.acknowledge(frame)
    assert taken == 20_000
    channel.open()


def test_a_flood_of_refusals_is_counted() -> None:
    """One place: one row with its number. Ever new places: MAX_ROWS rows, and one that counts the rest."""
    sent: list[bytes] = []
    egress = Egress([Reach(host="a.test", port=1, address="192.0.2.1", address_port=1)])
    channel = Channel(sent.append, egress)
    for number in range(1000):
        channel.received(encode(Kind.OPEN, 2 * number + 2, {"host": "evil.test", "port": 1}))
    (row,) = egress.records()
    assert (row.host, row.allowed, row.count) == ("evil.test", False, 1000)
    for number in range(MAX_ROWS + 77):
        channel.received(encode(Kind.OPEN, 2 * number + 2, {"host": f"{number}.evil.test", "port": 1}))
    rows = egress.records()
    assert len(rows) == MAX_ROWS + 1
    assert (rows[-1].host, rows[-1].allowed, rows[-1].count) == ("(more)", False, 78)
    assert rows[-1].error == "78 more connections are not listed"
    assert sum(row.count for row in rows) == len(sent) == 1000 + MAX_ROWS + 77
    channel.close()


def test_more_tunnels_than_may_be_at_once_are_refused() -> None:
    """Those that are refused are one row, however many."""
    held = threading.Event()

    def resolve(_: str) -> tuple[str, ...]:
        held.wait(20)
        return ("192.0.2.1",)

    reach = Reach(host="a.test", port=1, address="slow.test", address_port=1)
    egress = Egress([reach], resolve=resolve)
    channel = Channel(lambda _: None, egress)
    try:
        for number in range(MAX_TUNNELS + 40):
            channel.received(encode(Kind.OPEN, 2 * number + 2, {"host": "a.test", "port": 1}))
        (refused,) = [row for row in egress.records() if not row.allowed]
        assert (refused.error, refused.count) == ("too many connections at once", 40)
    finally:
        held.set()
        channel.close()


def test_a_collected_file_may_not_leave_its_folder() -> None:
    """The guest names the files, so each name is judged; and more bytes than asked for end it."""
    for path in ("../x", "/etc/passwd", "a/../b", "", "x\n", "a/./b", 7, None):
        channel = _answering([encode(Kind.FILE, 1, {"path": path}), encode(Kind.OK, 1)])
        with pytest.raises(BrokenProtocol):
            channel.collect("/step/out", 100)
    empty = hashlib.sha256().hexdigest()
    twice = [encode(Kind.FILE, 1, {"path": "a", "sha256": empty})] * 2
    with pytest.raises(BrokenProtocol):
        _answering([*twice, encode(Kind.OK, 1)]).collect("/step/out", 100)
    greedy = [encode(Kind.FILE, 1, {"path": "a"}), encode(Kind.DATA, 1, b"x" * 101)]
    with pytest.raises(BrokenProtocol, match="more files"):
        _answering(greedy).collect("/step/out", 100)
    with pytest.raises(GuestRefused, match="no such folder"):
        _answering([encode(Kind.ERR, 1, {"error": "no such folder"})]).collect("/step/out", 100)


def _answering(frames: list[bytes]) -> Channel:
    def write(_: bytes) -> None:
        while frames:
            channel.received(frames.pop(0))

    channel = Channel(write, Egress(()))
    return channel


def test_a_silent_guest_is_waited_for_and_no_longer() -> None:
    """The boot timeout."""
    channel = Channel(lambda _: None, Egress(()))
    begun = time.monotonic()
    with pytest.raises(ChannelEnded, match="did not start"):
        channel.hello(0.1)
    assert time.monotonic() - begun < 5


def test_words_without_end_are_no_more_memory_than_a_window_has() -> None:
    """What no window counts is bounded in bytes too: here by 60 kB at a time, to whoever waits for the greeting."""
    channel = Channel(lambda _: None, Egress(()))
    frame = encode(Kind.OK, 0, b" " * 60_000)
    sent = 0
    while not channel.is_over:
        channel.received(frame)
        sent += len(frame)
    assert sent <= MAX_UNCOUNTED_BYTES + 2 * len(frame)


def test_single_bytes_do_not_cost_an_object_each() -> None:
    """A whole window of them is a few pieces."""
    channel = Channel(lambda _: None, Egress(()))
    stream = channel.open()
    channel.received(encode(Kind.STDOUT, 1, b"x") * WINDOW)
    assert len(stream._frames) <= WINDOW // CHUNK + 1
    taken = 0
    while frame := stream.next(0):
        taken += len(frame.payload)
    assert taken == WINDOW


@pytest.mark.parametrize("kind", [Kind.DATA, Kind.STDOUT])
def test_a_guest_that_goes_on_talking_does_not_hold_its_step_beyond_its_time(kind: Kind) -> None:
    """Each credit is answered with more of it, so that something always waits to be read."""
    guest = Scripted(lambda frame: frame.kind in {Kind.EXEC, Kind.WINDOW}, [(kind, b"x" * 100)])
    begun = time.monotonic()
    with _impatient():
        result = guest.carry_out(task("true", timeout_s=0.3))
    assert time.monotonic() - begun < 5
    assert result.ending is Ending.TIMED_OUT


def test_files_that_nobody_named_are_no_files() -> None:
    """Bytes before the first name would count for no file, and so for no limit."""
    channel = _answering([encode(Kind.DATA, 1, b"x" * 100)] * 3)
    with pytest.raises(BrokenProtocol, match="something else"):
        channel.collect("/step/out", 1000)


@pytest.mark.parametrize("told", [{}, {"sha256": None}, {"sha256": digest_of(b"y")[7:]}, {"sha256": digest_of(b"x")}])
def test_a_file_that_comes_back_changed_is_no_result(told: dict[str, object]) -> None:
    """The agent says the digest of each; a missing one is a wrong one."""
    wrong = [encode(Kind.FILE, 1, {"path": "a", **told}), encode(Kind.DATA, 1, b"x")]
    for after in ([encode(Kind.OK, 1)], [encode(Kind.FILE, 1, {"path": "b", "sha256": ""})]):
        with pytest.raises(BrokenProtocol, match="did not arrive"):
            _answering([*wrong, *after]).collect("/step/out", 100)
    right = [encode(Kind.FILE, 1, {"path": "a", "sha256": digest_of(b"x")[7:]}), encode(Kind.DATA, 1, b"x")]
    assert _answering([*right, encode(Kind.OK, 1)]).collect("/step/out", 100) == {"a": b"x"}


@pytest.mark.parametrize("told", [None, 7, "", "x" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n", {"a": 1}, ["a" * 64]])
def test_a_digest_that_is_none_ends_the_task(told: object) -> None:
    """It is kept as evidence of what the guest received."""
    with pytest.raises(BrokenProtocol, match="no digest"):
        _answering([encode(Kind.OK, 1, {"sha256": told})]).put("/step/x", b"x", 0o644)


@pytest.mark.parametrize(
    "said",
    [
        *({"code": code, "signal": None} for code in (-1, 256, 2**70, 1.0, "0", True, [0], None)),
        *({"code": None, "signal": number} for number in (0, -9, 65, 2**70, 9.0, "9", True)),
        *({"code": 0, "signal": 9}, {"code": 0, "signal": False}, {}, {"code": None}),
    ],
    ids=str,
)
def test_an_end_that_no_command_can_have_is_no_end(said: dict[str, object]) -> None:
    """Out of range, of a wrong type, or two at once: the step is lost, never finished."""
    guest = Scripted(lambda frame: frame.kind == Kind.EXEC, [(Kind.EXIT, json.dumps(said).encode())])
    result = guest.carry_out(task("true"))
    assert (result.ending, result.code) == (Ending.VM_LOST, None)
    assert result.reason == "the guest told no sensible end of the command"


@pytest.mark.parametrize("kind", [Kind.EXIT, Kind.ERR])
def test_what_a_guest_says_in_words_can_be_kept(kind: Kind) -> None:
    """NUL and half a character are what no database takes: they would stop the worker where it writes the result."""
    said = b'{"error": "a\\u0000b\\ud800' + b"c" * 1000 + b'"}'
    guest = Scripted(lambda frame: frame.kind == Kind.EXEC, [(kind, said)])
    reason = guest.carry_out(task("true")).reason
    assert "\0" not in reason
    assert "a\N{REPLACEMENT CHARACTER}b?ccc" in reason
    assert len(reason.encode()) < 700


def test_what_comes_after_the_end_of_a_command_changes_nothing() -> None:
    """Output, another end, another command's answers; and the files are collected as if they had not come."""
    late = [(Kind.STDOUT, b"late"), (Kind.EXIT, b'{"code": 7}'), (Kind.ERR, b'{"error": "late"}'), (Kind.OK, b"{}")]
    guest = Scripted(
        lambda frame: frame.kind == Kind.EXEC,
        [(Kind.STDOUT, b"out"), (Kind.EXIT, b'{"code": 3, "signal": null}'), *late],
    )
    result = guest.carry_out(task("true", collect="/step/out"))
    assert (result.ending, result.code, result.stdout, result.reason) == (Ending.EXITED, 3, "out", "")


def test_json_that_is_too_long_is_not_parsed() -> None:
    """On the thread that serves every VM."""
    channel = Channel(lambda _: None, Egress(()))
    channel.received(encode(Kind.OPEN, 2, b'{"host": "' + b"x" * MAX_JSON + b'"}'))
    with pytest.raises(ChannelEnded, match="bytes of JSON"):
        channel.open()


SAID = st.tuples(KINDS, PAYLOADS)
WHEN = st.sampled_from([Kind.SETUP, Kind.PUT, Kind.EXEC, Kind.EOF, Kind.COLLECT, Kind.WINDOW])
WORK = {"collect": "/step/out", "files": (FileIn(path="/step/a", content=b"a" * 70_000),), "timeout_s": 0.02}


@settings(max_examples=300, deadline=None)
@given(WHEN, st.lists(SAID, max_size=8), st.booleans())
def test_a_guest_that_behaves_and_then_does_not_ends_its_task_with_a_reason(
    when: Kind, saying: list[Said], cut: bool
) -> None:
    """Each request is answered as it should be, up to one kind; there come random frames, and perhaps the end."""
    guest = Scripted(lambda frame: frame.kind == when, saying, cut=cut)
    with _impatient():
        result = guest.carry_out(task("true", **WORK))
    assert result.reason or (result.ending, result.code is not None) == (Ending.EXITED, True)
    if result.received:
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", told) for told in result.received.values())
    assert result.ending is not Ending.EXITED or Kind.EXEC in {frame.kind for frame in guest.heard}


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "GRACE_S", 0.02)
        for name in ("ANSWER_TIMEOUT_S", "COLLECT_TIMEOUT_S"):
            patch.setattr(channel_module, name, 0.02)
        yield
