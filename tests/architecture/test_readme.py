"""README is true: its runnable blocks run, its runbook parses and lints, the files that it links to are there.

A fence that begins with ```sh runnable is run by bash in an empty folder, with .venv/bin first on the PATH; one that
begins with ```yaml runbook is held to the rules of every runbook; the scripts that it names do nothing but log in.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from engine.domain.runbook import GateStep
from engine.runbooks.shelf import Shelf
from tests.architecture.sources import REPOSITORY

README = REPOSITORY / "README.md"
TIMEOUT_S = 110
MAX_GATE_LINES = 10
_OPENING = re.compile(r"(`{3,}|~{3,})\s*(.*?)\s*")
_LINK = re.compile(r"\]\(([^()\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block: what its opening line says, its text, its first line's number."""

    info: str
    text: str
    line: int


def blocks(text: str) -> Iterator[Block]:
    """Every fenced block of a Markdown text; raises ValueError for one that is not closed."""
    fence, info, begun, kept = "", "", 0, list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        if fence:
            if line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                yield Block(info, "\n".join(kept) + "\n", begun)
                fence = ""
            else:
                kept.append(line)
        elif opening := _OPENING.fullmatch(line.strip()):
            fence, info = opening[1], opening[2]
            begun, kept = number + 1, []
    if fence:
        raise ValueError(f"the block at line {begun} is not closed")


def found(info: str) -> list[Block]:
    """The blocks of README that are marked so; none when there is no README (a test says that)."""
    return [block for block in blocks(README.read_text()) if block.info == info] if README.exists() else []


def test_there_is_a_readme_with_something_to_run_and_a_runbook() -> None:
    assert README.exists(), "write README.md"
    assert found("sh runnable"), "mark what can be run with ```sh runnable"
    assert len(found("yaml runbook")) == 1, "show one complete runbook in ```yaml runbook"


def test_a_fence_that_looks_marked_is_marked() -> None:
    """`runnable` with another language, or in another order, would never be run and look as if it were."""
    marks = {block.info for block in blocks(README.read_text())} if README.exists() else set()

    assert {mark for mark in marks if {"runnable", "runbook"} & set(mark.split())} <= {"sh runnable", "yaml runbook"}


@pytest.mark.parametrize("block", found("sh runnable"), ids=lambda block: f"line {block.line}")
def test_a_runnable_block_runs(block: Block, tmp_path: Path) -> None:
    bash = shutil.which("bash")
    assert bash is not None, "no bash: apt-get install bash"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SIGNALBOX_")}
    environ = kept | {"PATH": f"{REPOSITORY / '.venv/bin'}:{os.environ['PATH']}", "HOME": str(tmp_path)}

    done = subprocess.run(
        [bash, "-euo", "pipefail", "-c", block.text],
        cwd=tmp_path,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TIMEOUT_S,
        check=False,
    )

    assert done.returncode == 0, f"README.md line {block.line}: {done.stdout.decode(errors='replace')[-2000:]}"


def links(text: str) -> list[str]:
    """The files that a Markdown text links to or shows, outside its fences; not addresses, not its own headings."""
    for block in blocks(text):
        text = text.replace(block.text, "")
    return [target for target in _LINK.findall(text) if not re.match(r"[a-z]+:|#", target)]


def test_every_file_that_readme_links_to_is_there() -> None:
    named = links(README.read_text())

    assert named
    assert [target for target in named if not (REPOSITORY / target.partition("#")[0]).exists()] == []


def test_links_are_found_as_markdown_has_them() -> None:
    text = "[a](b.md) ![c](d/e.png) [web](https://x.example) [f](g.md#h) [i](#j)\n```\n[k](l)\n```\n"

    assert links(text) == ["b.md", "d/e.png", "g.md#h"]


def scripts(text: str) -> set[str]:
    """The script files that a runbook's text names, wherever."""
    todo, named = [yaml.safe_load(text)], set[str]()
    while todo:
        here = todo.pop()
        if isinstance(here, dict):
            named |= {value for key, value in here.items() if key == "script" and isinstance(value, str)}
            todo += here.values()
        elif isinstance(here, list):
            todo += here
    return named


def gate_lengths(text: str) -> dict[str, int]:
    """Gate id -> how many lines it takes in the text."""
    whole = yaml.compose(text)
    assert whole is not None, "the runbook is empty"
    steps = next(value for key, value in whole.value if key.value == "steps")
    found = {}
    for node in steps.value:
        fields = {key.value: value.value for key, value in node.value}
        if fields.get("kind") == "gate":
            block = text.splitlines()[node.start_mark.line : node.end_mark.line]
            found[fields["id"]] = len([line for line in block if line.strip() and not line.strip().startswith("#")])
    return found


@pytest.mark.parametrize("block", found("yaml runbook"), ids=lambda block: f"line {block.line}")
def test_a_runbook_block_loads_as_a_runbook(block: Block, tmp_path: Path) -> None:
    files = dict.fromkeys(scripts(block.text), b"#!/bin/sh\nssh target -- true\n")

    snapshot = Shelf(tmp_path).restore(block.text, files)

    gates = {step.id for step in snapshot.runbook.steps if isinstance(step, GateStep)}
    lengths = gate_lengths(block.text)
    assert gates == set(lengths)
    assert {gate: length for gate, length in lengths.items() if length > MAX_GATE_LINES} == {}


def test_blocks_are_found_as_markdown_has_them() -> None:
    text = "a\n```sh runnable\necho 1\n```\n~~~~ yaml runbook \n```\nx: 1\n~~~~\n```\nplain\n```\n"

    assert [(block.info, block.text, block.line) for block in blocks(text)] == [
        ("sh runnable", "echo 1\n", 3),
        ("yaml runbook", "```\nx: 1\n", 6),
        ("", "plain\n", 10),
    ]


def test_a_block_that_is_not_closed_is_not_passed_over() -> None:
    with pytest.raises(ValueError, match="line 2"):
        list(blocks("```sh runnable\nfalse\n"))
