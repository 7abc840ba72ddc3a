"""Gate kind `diff`: what an artefact changes is computed from its bytes, and a path is what it seems."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain import archive
from engine.domain.gate import INDEPENDENT, OFF_HOST, DiffCheck, DigestCheck, Sample
from engine.domain.states import Verdict
from engine.gates import diff
from tests.unit.gates.fakes import NoProbe, facts

CHECK = DiffCheck(id="scope", of="fix", allow=("fix/*.yml", "README"), max_files=2, max_lines=5)


def measured(new: Mapping[str, bytes] | bytes, old: Mapping[str, bytes] | None = None, **other: int) -> Sample:
    artefacts = {"fix": new if isinstance(new, bytes) else archive.pack(new)}
    check = replace(CHECK, **other)  # type: ignore[arg-type]  # limits
    if old is not None:
        artefacts["current"] = archive.pack(old)
        check = replace(check, against="current")
    return diff.measure(check, replace(facts(), artefacts=artefacts), NoProbe())


def test_a_small_change_within_its_globs_holds() -> None:
    sample = measured({"fix/main.yml": b"a: 1\nb: 2\n"})

    assert (sample.verdict, sample.why) == (
        Verdict.HELD,
        "1 files and 2 lines are changed, within fix/*.yml, README",
    )


@pytest.mark.parametrize("path", ["fix/roles/x/a.yml", "fix/a.yaml", "other/a.yml", "a.yml", "fix", "FIX/a.yml"])
def test_a_path_outside_of_the_globs_fails(path: str) -> None:
    """A glob's star stays within one part of the path: `fnmatch` on the whole would accept fix/roles/x/a.yml."""
    assert measured({path: b"x\n"}).verdict is Verdict.FAILED


def tar(*members: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as made:
        for name, kind in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            made.addfile(info)
    return out.getvalue()


@pytest.mark.parametrize(
    "wicked",
    [
        tar(("fix/../../etc/a.yml", tarfile.REGTYPE)),
        tar(("/etc/a.yml", tarfile.REGTYPE)),
        tar(("fix//a.yml", tarfile.REGTYPE)),
        tar(("fix/./a.yml", tarfile.REGTYPE)),
        tar(("fix/a.yml", tarfile.SYMTYPE)),
        tar(("fix/a.yml", tarfile.LNKTYPE)),
        tar(("fix/a.yml", tarfile.CHRTYPE)),
        tar(("fix/a.yml", tarfile.REGTYPE), ("fix/a.yml", tarfile.REGTYPE)),
        b"no archive",
        b"",
    ],
    ids=["up", "absolute", "empty part", "dot", "symlink", "hard link", "device", "twice", "garbage", "nothing"],
)
def test_a_wicked_archive_is_an_error(wicked: bytes) -> None:
    assert measured(wicked).verdict is Verdict.ERROR


@pytest.mark.parametrize(
    "path",
    [
        *("../a.yml", "fix/../a.yml", "/a.yml", "fix/./a.yml", "fix//a.yml", "", ".", "fix\\a.yml", "C:a.yml"),
        *("fix/m\u0430in.yml", "fix/cafe\u0301.yml", "fix/caf\u00e9.yml", "fix\u2215a.yml", "fix/\u202elmy.a"),
        "fix/a\n.yml",
    ],
)
def test_a_path_that_is_not_what_it_seems_is_refused(path: str) -> None:
    """Cyrillic a, a combining accent (and its composed form), a division slash, a character that turns the line."""
    assert diff.path_fault(path) is not None


def test_look_alikes_fail_though_the_glob_would_take_them() -> None:
    sample = measured({"fix/m\u0430in.yml": b"x\n"})

    assert (sample.verdict, "may look like others" in sample.why) == (Verdict.FAILED, True)


def test_two_paths_that_differ_in_capitals_fail() -> None:
    assert measured({"fix/a.yml": b"x\n", "fix/A.yml": b"x\n"}).verdict is Verdict.FAILED


def test_limits_are_inclusive() -> None:
    files = {"fix/a.yml": b"1\n2\n", "fix/b.yml": b"1\n2\n3\n"}

    assert measured(files).verdict is Verdict.HELD
    assert measured(files, max_files=1).verdict is Verdict.FAILED
    assert measured(files, max_lines=4).verdict is Verdict.FAILED


def test_against_what_it_replaces_only_what_differs_counts() -> None:
    old = {"fix/a.yml": b"1\n2\n3\n4\n5\n6\n", "other/kept": b"x" * 100}
    new = {**old, "fix/a.yml": b"1\n2\nthree\n4\n5\n6\n"}

    sample = measured(new, old)
    assert (sample.verdict, "1 files and 2 lines" in sample.why) == (Verdict.HELD, True)
    assert measured(new, old, max_lines=1).verdict is Verdict.FAILED


def test_what_is_taken_away_is_changed_too() -> None:
    assert measured({"README": b"x\n"}, {"README": b"x\n", "etc/shadow": b"y\n"}).verdict is Verdict.FAILED
    assert measured({"README": b"x\n"}, {"README": b"x\n", "fix/a.yml": b"y\n"}).verdict is Verdict.HELD
    assert measured({"README": b"x\n"}, {"README": b"x\n", "fix/a.yml": b"y\n" * 6}).verdict is Verdict.FAILED


def test_lines_that_only_changed_places_count() -> None:
    assert measured({"README": b"c\na\nb\n"}, {"README": b"a\nb\nc\n"}, max_lines=1).verdict is Verdict.FAILED


def test_a_newline_at_the_end_counts_one_line() -> None:
    assert measured({"README": b"a"}, {"README": b"a\n"}, max_lines=0).verdict is Verdict.FAILED


def test_nothing_changed_is_no_data() -> None:
    sample = measured({"README": b"x\n"}, {"README": b"x\n"})

    assert (sample.verdict, sample.no_data) == (Verdict.INCONCLUSIVE, True)


def test_no_artefact_is_no_data() -> None:
    """Of either side: against nothing, everything old would look new, and the other way round."""
    known = replace(facts(), artefacts={"fix": archive.pack({"README": b"x\n"})})

    assert diff.measure(CHECK, facts(), NoProbe()).no_data
    assert diff.measure(replace(CHECK, against="current"), known, NoProbe()).no_data


@pytest.mark.parametrize("content", [b"\0\1\2", b"x" * 5000, b"\n" * 30_000], ids=["binary", "one line", "many lines"])
def test_what_nobody_could_read_is_an_error(content: bytes) -> None:
    assert measured({"README": content}, max_lines=100_000).verdict is Verdict.ERROR


def test_a_hostile_text_cannot_make_it_compute_for_long() -> None:
    begun = time.monotonic()
    old, new = b"a\nb\n" * 4900, b"b\na\n" * 4900 + b"c\n"

    assert measured({"README": new}, {"README": old}, max_lines=1).verdict is Verdict.FAILED
    assert measured({"README": b"\n".join(b"%d" % n for n in range(9999))}, {"README": new}, max_lines=1000).verdict
    assert time.monotonic() - begun < 30


TEXT = st.lists(st.sampled_from([b"a", b"b", b"c"]), max_size=12)


@given(TEXT, TEXT)
def test_the_distance_is_the_shortest_there_is(old: list[bytes], new: list[bytes]) -> None:
    found = diff.distance(old, new, 24)

    assert found is not None
    assert found == _longest(old, new)
    assert found == 0 or diff.distance(old, new, found - 1) is None


def _longest(old: list[bytes], new: list[bytes]) -> int:
    """By the textbook: all lines that are not in the longest common subsequence."""
    row = [0] * (len(new) + 1)
    for line in old:
        above = row[:]
        for at, other in enumerate(new):
            row[at + 1] = above[at] + 1 if line == other else max(above[at + 1], row[at])
    return len(old) + len(new) - 2 * row[-1]


def test_it_is_never_independent() -> None:
    assert DiffCheck not in {*INDEPENDENT, *OFF_HOST}
    assert diff.measure(DigestCheck(id="d", of="a", equals="b"), facts(), NoProbe()).verdict is Verdict.ERROR
