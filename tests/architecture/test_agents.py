"""agents.md is true: short, every path in it exists, every room is on its map, its rules can be added to."""

from __future__ import annotations

import re

from engine.harness import rule
from tests.architecture.sources import OURS, REPOSITORY

AGENTS = REPOSITORY / "agents.md"
MAX_LINES = 150
_IN_A_FOLDER = re.compile(rf"(?<![\w./-])(?:{'|'.join(OURS)}|runbooks|\.ci)/[\w./*-]*[\w*]")
_QUOTED = re.compile(r"`([\w.-]+(?:/[\w.*-]+)*/?)`")
_FILE = re.compile(r"[\w-]*\.(?:md|toml|lock|py|yaml|sh|json|ini)|Makefile|Procfile")


def paths(text: str) -> set[str]:
    """Everything in a text that is a path of ours: below a folder, or a quoted folder or file of the root."""
    quoted = {name.rstrip("/") for name in _QUOTED.findall(text)}
    return set(_IN_A_FOLDER.findall(text)) | {
        name for name in quoted if "/" not in name and (_FILE.fullmatch(name) or name in {*OURS, "runbooks"})
    }


def test_it_is_a_map_and_not_a_book() -> None:
    assert len(AGENTS.read_text().splitlines()) <= MAX_LINES


def test_every_path_that_it_names_exists() -> None:
    named = paths(AGENTS.read_text())

    assert len(named) > 15, "the paths are not found any more: mend this test"
    assert [path for path in sorted(named) if not list(REPOSITORY.glob(path))] == []


def test_every_room_is_on_the_map() -> None:
    rooms = {
        path.relative_to(REPOSITORY).as_posix()
        for root in ("engine", "bot")
        for path in (REPOSITORY / root).iterdir()
        if (path / "__init__.py").exists() or (root == "engine" and path.suffix == ".py" and path.stem != "__init__")
    }

    assert rooms - paths(AGENTS.read_text()) == set()


def test_the_commands_come_first_and_make_knows_them() -> None:
    text = AGENTS.read_text()
    targets = set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))

    assert text.index("## Commands") < text.index("## The map") < text.index("## Rules")
    assert {"test", "lint", "demo"} <= set(re.findall(r"`make ([a-z]+)", text)) <= targets


def test_its_section_of_harness_rules_takes_rules() -> None:
    lines = AGENTS.read_text().split("\n")
    within = [lines[at] for at in rule.section(lines)]

    assert all(
        re.fullmatch(r"- HN-\d+: .+ \(incident INC-\d+, review by \d{4}-\d\d-\d\d, test [\w./-]+\)", line)
        for line in within
    )
    assert len(set(rule.numbers(within))) == len(within) <= rule.MAX_RULES


def test_a_path_that_does_not_exist_would_be_noticed() -> None:
    text = "see `engine/nowhere.py`, engine/gates/*.xyz, `nowhere.md` and (tests/none)"

    assert [path for path in sorted(paths(text)) if not list(REPOSITORY.glob(path))] == [
        "engine/gates/*.xyz", "engine/nowhere.py", "nowhere.md", "tests/none",
    ]  # fmt: skip
