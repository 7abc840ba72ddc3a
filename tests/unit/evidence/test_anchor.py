"""The anchors file: what a crash, a second process and a forger leave of it."""

from __future__ import annotations

import multiprocessing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engine.domain.chain import Head
from engine.domain.digest import of_bytes
from engine.domain.errors import BadInput, Unavailable
from engine.evidence import anchor, key, line
from engine.evidence.anchor import AnchorFile, Read, look
from engine.evidence.line import Seen

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
SECRET = Ed25519PrivateKey.generate()
KEYS = {key.fingerprint(SECRET.public_key()): SECRET.public_key()}


def head(seq: int, what: str = "") -> Head:
    return Head(seq, of_bytes(f"{seq}{what}".encode()))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "anchors.jsonl"


def opened(path: Path) -> AnchorFile:
    """As a process that just started sees it."""
    return AnchorFile(path, SECRET)


def seen(path: Path, incident: int = 1) -> list[tuple[int, int]]:
    """(seq, after) of each line that mentions the incident, in a file in which nothing is wrong."""
    read = look(path, incident, KEYS)
    assert read.known.wrong == []
    heads = [each.head(incident) for each in read.lines]
    return [(each.seq, each.after) for each in heads if each is not None]


def test_only_what_is_new_is_written_and_each_line_follows_the_one_before(path: Path) -> None:
    file = opened(path)
    assert file.keep({1: head(3)}, NOW) == ()
    assert file.keep({1: head(3)}, NOW) == ()
    assert file.keep({1: head(3), 2: head(1)}, NOW) == ()
    assert opened(path).keep({1: head(5), 2: head(1)}, NOW) == ()

    assert len(path.read_text().splitlines()) == 3
    assert seen(path) == [(3, 0), (5, 3)]
    assert seen(path, 2) == [(1, 0)]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("left", [1, 40, -1])
def test_a_crash_in_the_middle_of_a_line_is_survived_and_told(path: Path, left: int) -> None:
    opened(path).keep({1: head(3)}, NOW)
    whole = path.read_bytes()
    opened(path).keep({1: head(5)}, NOW)
    torn = path.read_bytes()[len(whole) :][: left if left > 0 else -2]
    path.write_bytes(whole + torn)

    assert opened(path).keep({1: head(5), 2: head(1)}, NOW) == ()

    assert seen(path) == [(3, 0), (5, 3)]
    assert [f"line 2 is no anchor ({len(torn) + 1} bytes)" in told for told in look(path).known.told] == [True]


def test_a_line_that_lacks_only_its_end_counts(path: Path) -> None:
    opened(path).keep({1: head(3)}, NOW)
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    opened(path).keep({1: head(5)}, NOW)

    assert seen(path) == [(3, 0), (5, 3)]
    assert look(path).known.told == []


def test_a_process_reads_what_another_wrote(path: Path) -> None:
    one, other = opened(path), opened(path)
    for seq in range(1, 7):
        (one if seq % 2 else other).keep({1: head(seq)}, NOW)

    assert [pair[0] for pair in seen(path)] == [1, 2, 3, 4, 5, 6]


def write_many(path: Path, incident: int) -> None:
    file = opened(path)
    for seq in range(1, 41):
        file.keep({incident: head(seq)}, NOW)


def test_two_processes_do_not_interleave(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchor, "LOCK_WAIT_S", 60)  # whose turn it is is luck; here nobody may give up
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_many, args=(path, number)) for number in (1, 2, 3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0

    for number in (1, 2, 3):
        assert [seq for seq, _ in seen(path, number)] == list(range(1, 41))


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        (lambda lines: [lines[0], lines[2]], "line 2 does not follow"),
        (lambda lines: lines[1:], "line 1 does not follow"),
        (lambda lines: [lines[0], lines[2], lines[1]], "line 2 does not follow"),
        (lambda lines: [lines[0], lines[1].replace(b'"seq":2', b'"seq":7'), lines[2]], "line 2 has a bad signature"),
        (lambda lines: [lines[0], b"nothing", lines[2]], "line 3 does not follow"),
    ],
)
def test_a_line_that_was_edited_or_taken_out_is_told(path: Path, lines: object, wrong: str) -> None:
    for seq in (1, 2, 3):
        opened(path).keep({1: head(seq)}, NOW)
    forged = lines(path.read_bytes().splitlines())  # type: ignore[operator]  # a function of the lines
    path.write_bytes(b"\n".join(forged) + b"\n")

    assert any(wrong in what for what in look(path, 1, KEYS).known.wrong)
    if "signature" not in wrong:
        assert any(wrong in what for what in opened(path).keep({1: head(3)}, NOW))


def test_a_chain_that_is_no_longer_what_was_anchored_is_told_and_not_anchored(path: Path) -> None:
    opened(path).keep({1: head(5), 2: head(5), 3: head(5)}, NOW)

    wrong = opened(path).keep({1: head(4), 2: head(5, "forged")}, NOW)

    assert [what[:30] for what in wrong] == [
        "the chain of incident 1 was an",
        "event 5 of incident 2 is not t",
        "incident 3 was anchored and is",
    ]
    assert seen(path) == [(5, 0)]


def test_a_file_moved_away_is_begun_anew(path: Path) -> None:
    file = opened(path)
    file.keep({1: head(5)}, NOW)
    path.rename(path.with_suffix(".old"))
    file.keep({1: head(6)}, NOW)

    assert seen(path) == [(6, 0)]


def test_a_full_disk_is_unavailable_and_the_next_round_goes_on(path: Path) -> None:
    file = AnchorFile(Path("/dev/full"), SECRET)
    with pytest.raises(Unavailable, match="cannot write /dev/full"):
        file.keep({1: head(1)}, NOW)


def test_lines_about_an_incident_are_those_from_its_first_to_its_last(path: Path) -> None:
    file = opened(path)
    for heads in ({1: head(1)}, {2: head(1)}, {3: head(1)}, {2: head(2)}, {1: head(2)}):
        file.keep(heads, NOW)

    read: Read = look(path, 2, KEYS)
    assert [[each.incident for each in found.heads] for found in read.lines] == [[2], [3], [2]]


# -- keys


def test_a_key_is_made_once_and_ours_alone(tmp_path: Path) -> None:
    where = tmp_path / "anchor.key"
    made = key.kept_in(where)

    assert where.stat().st_mode & 0o777 == 0o600
    assert key.public_pem(key.kept_in(where)) == key.public_pem(made)
    assert list(tmp_path.iterdir()) == [where]


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    where = tmp_path / "anchor.key"
    key.kept_in(where)
    where.chmod(0o640)

    with pytest.raises(BadInput, match="open to other users"):
        key.kept_in(where)


@pytest.mark.parametrize("text", ["", "nonsense", key.public_pem(SECRET)])
def test_what_is_no_private_key_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(BadInput, match="holds no Ed25519 key") as told:
        key.from_pem(text, "SIGNALBOX_ANCHOR_KEY")
    assert "nonsense" not in str(told.value)


def test_a_line_is_signed_for_this_purpose_and_by_this_key() -> None:
    signed = line.sign(SECRET, previous="genesis", at=NOW, heads=[Seen(incident=1, seq=1, hash=head(1).hash, after=0)])
    other = Ed25519PrivateKey.generate().public_key()

    assert signed.complaint(KEYS) == ""
    assert "another key" in signed.complaint({key.fingerprint(other): other})
    assert "bad signature" in signed.complaint({key.fingerprint(SECRET.public_key()): other})
    assert line.read(signed.text) == signed
    with pytest.raises(BadInput):
        line.read(signed.text.replace('{"at"', '{ "at"'))
