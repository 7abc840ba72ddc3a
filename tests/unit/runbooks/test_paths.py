"""Every way through a runbook, and what the rules ask of text: the small pieces on their own."""

from __future__ import annotations

import json
import re

import pytest

from engine.domain.journey import plan
from engine.runbooks import paths, skeleton
from engine.runbooks.book import Book
from engine.runbooks.rules.measuring import program
from engine.runbooks.rules.untrusted import alphabet
from engine.runbooks.shelf import shaped
from tests.unit.runbooks.judged import rules, said


def test_the_paths_are_the_line_each_retry_and_each_rollback() -> None:
    journey = plan(shaped(skeleton.TEXT, "x")[1])
    found = [[leg.id for leg in path] for path in paths.every(journey)]
    line = [leg.id for leg in journey.line]

    assert found[0] == line
    assert dict(_going_back(path) for path in found[1:-1]) == {
        "staging:rehearse": "confirmed",
        "staging:rollback": "confirmed",
        "staging": "staging:rollback-gate",
        "production": "tested",
    }
    assert found[-1] == [*line[: line.index("production") + 1], *(leg.id for leg in journey.rollbacks[0])]


def _going_back(path: list[str]) -> tuple[str, str]:
    """From where to where a path goes back: the leg before the first that comes a second time, and that one."""
    at = next(at for at, leg in enumerate(path) if leg in path[:at])
    return path[at - 1], path[at]


def test_on_the_skeleton_nothing_is_unguarded_and_nothing_unjudged() -> None:
    for path in paths.every(plan(shaped(skeleton.TEXT, "x")[1])):
        assert list(paths.unguarded(path)) == []
        assert list(paths.unjudged(path)) == []


@pytest.mark.parametrize(
    ("pattern", "holds"),
    [
        ("^[a-c]{1,3}$", "abc"),
        (r"^a\.b$", "ab."),
        ("^x[0-2_-]?$", "x012_-"),
        ("^(ab){2}$", "ab"),
        ("^[]a]$", "]a"),
    ],
)
def test_the_alphabet_of_a_pattern(pattern: str, holds: str) -> None:
    assert alphabet(pattern) == frozenset(holds)


@pytest.mark.parametrize("pattern", ["^.{1,3}$", r"^\d{1,3}$", r"^\w{1,3}$", r"^\S{1,3}$", "^[^;]{1,3}$"])
def test_what_lets_in_more_than_it_seems_to(pattern: str) -> None:
    r"""Also `\d`: digits of every script."""
    assert any(not char.isascii() for char in alphabet(pattern))


def test_an_alphabet_that_cannot_be_told_is_an_error() -> None:
    with pytest.raises(re.error):
        alphabet(r"^\x4$")


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["df", "/"], "df"),
        (["/usr/bin/sudo", "-n", "systemctl", "restart", "x"], "systemctl"),
        (["env", "LANG=C", "timeout", "-k", "5", "10s", "bash", "-c", "x"], "bash"),
        (["sudo"], "sudo"),
    ],
)
def test_the_program_is_found_past_its_wrappers(argv: list[str], name: str) -> None:
    assert program(argv) == name


def test_the_words_of_a_step_follow_the_files_that_its_script_names() -> None:
    text = skeleton.TEXT.replace("access: none", "access: none\n    network: [{host: mirror.example, port: 443}]")
    files = {**skeleton.FILES, "fix.sh": b"#!/bin/sh\npython3 /step/runbook/lib/fetching.py\n"}

    assert rules(said(text, files)) == {"L026"}
    assert said(text, {**files, "lib/fetching.py": b"import deeper\n", "lib/deeper.py": b"'mirror.example'"}) == []
    assert rules(said(text, {**files, "other.py": b"'mirror.example'"})) == {"L026"}


def test_two_files_that_name_each_other_are_read_once() -> None:
    file, runbook, _ = shaped(skeleton.TEXT, "x")
    files = {**skeleton.FILES, "fix.sh": b"a b", "a.py": b"b fix", "b.py": b"a fix"}
    book = Book(file=file, runbook=runbook, files=files)
    fix = book.script("fix")

    assert fix is not None
    assert sorted(book.words(fix).splitlines()) == ["a b", "a fix", "b fix"]


@pytest.mark.parametrize(
    ("query", "holds"),
    [
        ('errors{env="staging"}', True),
        ("errors{env='staging', unit=\"x\"}", True),
        ('up{instance="staging.example:9100"}', True),
        ('up{instance="{{target.host}}:9100"}', True),
        ('errors{env!="production"}', False),
        ('errors{env=~"staging|production"}', False),
        ('errors{env="staging-of-somebody"}', False),
        ('errors{env="staging"} / errors{env="production"}', False),
        ('label_replace(errors, "env", "staging", "", "")', False),
    ],
)
def test_a_query_is_of_its_target_alone(query: str, holds: bool) -> None:
    check = {"id": "rate", "type": "promql", "target": "staging", "query": query, "expect": "result[0] < 0.1"}
    line = f"- {json.dumps(check)}\n      - {{id: same,"
    found = rules(said(skeleton.TEXT.replace("- {id: same,", line, 1), skeleton.FILES))

    assert found == (set() if holds else {"L021"})


@pytest.mark.parametrize("run", ["[./check.sh]", "[/tmp/check.sh, all]", "[/home/operator/x]"])
def test_a_gate_runs_no_program_that_the_step_could_have_written(run: str) -> None:
    line = f"- {{id: own, type: command, target: production, run: {run}, expect: code == 0}}\n      - {{id: ill,"
    text = skeleton.TEXT.replace("- {id: ill,", line)

    assert rules(said(text, skeleton.FILES)) == {"L033"}
