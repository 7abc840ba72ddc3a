"""The shelf on a real folder: what counts is what is on disk now, and only plain files count."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engine.domain.alert import Alert, AlertStatus, Severity
from engine.domain.digest import snapshot_digest
from engine.domain.errors import BadInput
from engine.domain.ports import RunbookShelf
from engine.runbooks import Shelf
from engine.runbooks.folder import MAX_FILES, MAX_FOLDER_BYTES
from tests.unit.runbooks.good import FILES, TEXT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.yaml").write_text(TEXT)
    (tmp_path / "good").mkdir()
    for name, data in FILES.items():
        (tmp_path / "good" / name).write_bytes(data)
    return tmp_path


def alert(name: str = "Broken", severity: Severity = Severity.CRITICAL) -> Alert:
    return Alert(
        source="alertmanager",
        fingerprint="f",
        name=name,
        status=AlertStatus.FIRING,
        severity=severity,
        title="",
        labels={},
        annotations={},
        starts_at=datetime(2026, 1, 1, tzinfo=UTC),
        ends_at=None,
        group_key="g",
    )


def refusal(folder: Path, name: str = "good") -> str:
    with pytest.raises(BadInput) as refused:
        Shelf(folder).read(name)
    return str(refused.value)


def test_a_runbook_with_its_files_and_digest_is_read(folder: Path) -> None:
    shelf: RunbookShelf = Shelf(folder)

    snapshot = shelf.read("good")

    assert (snapshot.runbook.name, snapshot.source, dict(snapshot.files)) == ("good", TEXT, FILES)
    assert snapshot.digest == snapshot_digest(TEXT, FILES)
    assert shelf.names() == ("good",)


def test_what_was_read_can_be_restored(folder: Path) -> None:
    snapshot = Shelf(folder).read("good")

    assert Shelf(folder / "elsewhere").restore(snapshot.source, snapshot.files) == snapshot


def test_every_byte_counts_at_once(folder: Path) -> None:
    """A script, a file beside it, a comment in the YAML: each gives another digest, at the next reading."""
    shelf = Shelf(folder)
    digests = [shelf.read("good").digest]
    for path, text in (
        ("good/apply.sh", "#!/bin/sh\nexit 1\n"),
        ("good/more.txt", ""),
        ("good.yaml", TEXT + "# more\n"),
    ):
        (folder / path).write_text(text)
        digests.append(shelf.read("good").digest)

    assert len(set(digests)) == 4


def test_a_refusal_names_the_file_and_the_line(folder: Path) -> None:
    (folder / "good.yaml").write_text(TEXT.replace("access: read", "acess: read"))

    line = TEXT.count("\n", 0, TEXT.index("access: read")) + 1
    said = refusal(folder).splitlines()

    assert said[1].startswith(f"{folder}/good.yaml:{line}:5: unknown key steps[1].acess - did you mean access?")


def test_a_name_that_is_not_the_files_is_refused(folder: Path) -> None:
    (folder / "good.yaml").rename(folder / "other.yaml")
    (folder / "good").rename(folder / "other")

    assert refusal(folder, "other") == f"{folder}/other.yaml:2:1: the name good is not the file's - write `name: other`"


@pytest.mark.parametrize("name", ["", "../good", "good/../good", "Good", "good.yaml", "a" * 50, "good\n"])
def test_only_names_are_names(folder: Path, name: str) -> None:
    assert "is no name of a runbook" in refusal(folder, name)


def test_an_unknown_runbook_is_told_with_those_that_are_there(folder: Path) -> None:
    with pytest.raises(BadInput) as refused:
        Shelf(folder).read("missing")

    assert (str(refused.value), refused.value.remedy) == ("there is no runbook missing", "there is good")


def test_a_missing_script_is_refused(folder: Path) -> None:
    (folder / "good" / "undo.sh").unlink()

    assert refusal(folder).count("undo.sh is not in the folder good/ - add the file [L022]") == 2


def test_links_are_refused_wherever_they_stand(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A link would let somebody who cannot write here change what runs."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "x.sh").write_text("#!/bin/sh\n")
    for link, target in (("x.sh", outside / "x.sh"), ("lib", outside), ("gone.sh", outside / "gone")):
        (folder / "good" / link).symlink_to(target)
        assert f"cannot read {link}" in refusal(folder)
        (folder / "good" / link).unlink()
    (folder / "good").rename(folder / "real")
    (folder / "good").symlink_to(folder / "real")
    assert "good/ is a link" in refusal(folder)


def test_a_linked_yaml_is_refused(folder: Path) -> None:
    (folder / "good.yaml").rename(folder / "real.txt")
    (folder / "good.yaml").symlink_to(folder / "real.txt")

    assert "cannot read good.yaml" in refusal(folder)


@pytest.mark.timeout(10)
def test_pipes_are_refused_and_do_not_block(folder: Path) -> None:
    os.mkfifo(folder / "good" / "pipe.sh")

    assert "pipe.sh is no regular file" in refusal(folder)


def test_odd_names_are_refused(folder: Path) -> None:
    (folder / "good" / "a b.sh").write_text("")

    assert "good/ has a file with the name 'a b.sh'" in refusal(folder)


def test_too_many_and_too_large_files_are_refused(folder: Path) -> None:
    (folder / "good" / "big").write_bytes(b"x" * MAX_FOLDER_BYTES)
    assert "is too large" in refusal(folder)
    (folder / "good" / "big").unlink()
    for number in range(MAX_FILES):
        (folder / "good" / f"n{number}").touch()
    assert f"more than {MAX_FILES} files" in refusal(folder)


def test_what_editors_leave_behind_is_no_part_of_it(folder: Path) -> None:
    before = Shelf(folder).read("good")
    (folder / "good" / ".apply.sh.swp").write_text("x")
    (folder / "good" / "apply.sh~").write_text("x")
    (folder / "good" / "__pycache__").mkdir()
    (folder / "good" / "__pycache__" / "x.pyc").write_bytes(b"x")

    assert Shelf(folder).read("good") == before


@pytest.mark.parametrize(("data", "what"), [(b"\xff\xfe", "not UTF-8 at byte 0"), (b"x" * 70_000, "is too large")])
def test_unreadable_yaml_is_refused(folder: Path, data: bytes, what: str) -> None:
    (folder / "good.yaml").write_bytes(data)

    assert what in refusal(folder)


def test_a_runbook_without_a_folder_has_no_scripts(folder: Path) -> None:
    (folder / "good").rename(folder / "away")

    assert "look.sh is not in the folder good/" in refusal(folder)


def test_an_alert_finds_its_runbook(folder: Path) -> None:
    shelf = Shelf(folder)

    assert shelf.matching(alert()) == ("good",)
    assert shelf.matching(alert(name="Other")) == ()
    assert shelf.matching(alert(severity=Severity.WARNING)) == ()


def test_a_runbook_without_severities_takes_any(folder: Path) -> None:
    (folder / "good.yaml").write_text(TEXT.replace(", severity: [critical]", ""))

    assert Shelf(folder).matching(alert(severity=Severity.UNKNOWN)) == ("good",)


def test_two_runbooks_for_one_alert_are_both_found(folder: Path) -> None:
    """Which one is meant is not for the shelf to say."""
    (folder / "twin.yaml").write_text(TEXT.replace("name: good", "name: twin"))
    (folder / "twin").mkdir()
    for name, data in FILES.items():
        (folder / "twin" / name).write_bytes(data)

    assert Shelf(folder).names() == Shelf(folder).matching(alert()) == ("good", "twin")


def test_a_broken_runbook_never_matches(folder: Path) -> None:
    (folder / "good.yaml").write_text(TEXT.replace("idempotent: false", "idempotent: maybe"))

    assert Shelf(folder).matching(alert()) == ()


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert Shelf(tmp_path / "nowhere").names() == ()
