"""README's walk is walked: from an empty folder to an activated runbook, with what README prints.

Fences are taken in README's order. `console walk` has commands after `$ ` and below each what it prints, `...` standing
for anything; `LANGUAGE walk FILE` is a file as it is to be written; `diff walk FILE` is edits of a file: each run of
`-` lines, wherever it stands, becomes the `+` lines after it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.sources import REPOSITORY
from tests.architecture.test_readme import README, Block, blocks
from tests.integration.cli.conftest import COMMAND

WALK_S = 180
_EDIT = re.compile(r"((?:^-.*\n)+)((?:^\+.*\n)+)", re.MULTILINE)


def walk() -> list[Block]:
    return [block for block in blocks(README.read_text()) if "walk" in block.info.split()]


def edited(text: str, edits: str) -> str:
    """The text after the edits; raises ValueError for one that does not apply."""
    if rest := _EDIT.sub("", edits):
        raise ValueError(f"neither - nor + of an edit: {rest}")
    for old, new in _EDIT.findall(edits):
        gone, come = ("\n".join(line[1:] for line in lines.splitlines()) for lines in (old, new))
        if gone not in text:
            raise ValueError(f"not there: {gone}")
        text = text.replace(gone, come)
    return text


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """Each command of a `console` block, and what is printed below it."""
    for entry in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, printed = entry.partition("\n")
        yield command, printed


def alike(shown: str, printed: str) -> bool:
    """Whether what was printed is what is shown: a line of only `...` is any lines, also none; else `...` is any text.

    Blanks at the ends of lines do not count.
    """
    any_lines, any_text = r"(?:[^\n]*\n)*", r"[^\n]*"
    pattern = "".join(
        any_lines if line.strip() == "..." else any_text.join(map(re.escape, line.rstrip().split("..."))) + r"\n"
        for line in shown.strip("\n").splitlines()
    )
    return bool(re.fullmatch(pattern, "".join(f"{line.rstrip()}\n" for line in printed.strip("\n").splitlines())))


@pytest.mark.timeout(400)  # it simulates every path
def test_from_an_empty_folder_to_an_activated_runbook(tmp_path: Path) -> None:
    environ = {"PATH": f"{COMMAND.parent}:{os.environ['PATH']}", "HOME": str(tmp_path), "PWD": str(tmp_path)}
    environ["PYTHONPATH"] = str(REPOSITORY)  # the code that this README is of, whatever is installed
    seen = []

    for block in walk():
        kind, _, target = block.info.partition(" walk")
        where = f"README.md line {block.line}"
        if kind == "console":
            for command, shown in commands(block):
                printed = _run(command, tmp_path, environ)
                assert alike(shown, printed), f"{where}: $ {command}\n{printed}"
                seen.append(command)
            continue
        file = tmp_path / target.strip()
        assert file.is_file(), f"{where}: `runbook new` wrote no {target}"
        file.write_text(edited(file.read_text(), block.text) if kind == "diff" else block.text)

    for verb in ("runbook new", "runbook lint", "runbook test", "runbook activate", "simulate", "grants", "migrate"):
        assert any(f"signalbox {verb}" in command for command in seen), f"the walk never shows signalbox {verb}"


def _run(command: str, folder: Path, environ: dict[str, str]) -> str:
    """What a command prints; `export A=...` sets the variables of those after it."""
    words = shlex.split(command, comments=True)
    if words[0] == "export":
        environ |= dict(word.replace("$PWD", str(folder)).split("=", 1) for word in words[1:])
        return ""
    assert words[0] == "signalbox", f"not a command of the walk: {command}"
    done = subprocess.run(
        [str(COMMAND), *words[1:]],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WALK_S,
        check=False,
    )
    assert done.returncode == 0, f"$ {command}\n{done.stdout[-2000:]}"
    return done.stdout


def test_an_edit_changes_every_place_and_one_that_is_nowhere_is_refused() -> None:
    assert edited("a: 1\nb: 2\na: 1\n", "-a: 1\n+a: 3\n+c: 4\n-b\n+d\n") == "a: 3\nc: 4\nd: 2\na: 3\nc: 4\n"
    for wrong in ("-e\n+f\n", "-a: 1\n", "+a\n", "a\n"):
        with pytest.raises(ValueError, match=r"not there|neither"):
            edited("a: 1\n", wrong)


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a\n...\nd", "a\nb\nc\nd\n", True),
        ("a\n...", "a", True),
        ("wrote .../x in 3 s", "wrote /tmp/x in 3 s\n", True),
        ("", "", True),
        ("", "a\n", False),
        ("a\n...\nd", "a\nb\n", False),
        ("a", "a\nb\n", False),
        ("1 of 1", "1 of 2", False),
    ],
)
def test_what_is_shown_is_what_is_printed(shown: str, printed: str, same: bool) -> None:
    assert alike(shown, printed) is same
