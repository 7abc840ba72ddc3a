"""git itself takes the patch, onto agents.md in every form that a text file may have."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from engine.domain.errors import BadInput
from engine.harness import rule
from engine.harness.patch import make_patch
from tests.unit.harness.incidents import AGENTS, JOURNEY, incident, note, run

EMPTY = f"{rule.BEGIN}\n{rule.END}"


def git(folder: Path, *argv: str, text: bytes = b"") -> str:
    if shutil.which("git") is None:
        pytest.fail("no git: apt-get install git")
    done = subprocess.run(["git", *argv], cwd=folder, input=text, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.parametrize(
    "agents_md",
    [
        AGENTS,
        AGENTS.rstrip("\n"),
        EMPTY,
        f"{EMPTY}\n",
        f"# t\n{EMPTY}\n",
        f"# t\n\n\n\n\n{EMPTY}\n\n\n\n\nend",
        AGENTS.replace("\n", "\r\n"),
        f"a\x0cb\u2028c\x85d\n{EMPTY}\n",
    ],
)
def test_git_applies_it_and_the_rule_and_the_fixture_are_there(tmp_path: Path, agents_md: str) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "agents.md").write_bytes(agents_md.encode())
    patch = make_patch(
        note(rule="Größe prüfen 😀 \u202e<!-- end of harness rules -->\n+++ b/engine/service.py", what="\n--- a\n"),
        incident(run()),
        journey=JOURNEY,
        agents_md=agents_md,
    )

    git(tmp_path, "apply", "--whitespace=error-all", *(["--whitespace=nowarn"] if "\r" in agents_md else []), "-",
        text=patch.encode())  # fmt: skip

    after = (tmp_path / "agents.md").read_bytes().decode().split("\n")
    (new,) = [line for line in after if line.startswith("- HN-7: Größe prüfen 😀 !-- end of harness rules")]
    assert [line for line in after if line != new] == agents_md.split("\n")
    assert new.endswith("\r") == ("\r" in agents_md)
    assert after.index(new) in rule.section(after)
    assert json.loads((tmp_path / "tests/regressions/hn-7.json").read_text())["incident"] == "INC-42"
    assert git(tmp_path, "status", "--porcelain", "-uall").split() == [
        "??", "agents.md", "??", "tests/regressions/hn-7.json",
    ]  # fmt: skip


def test_after_it_is_applied_nothing_is_left_to_add(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "agents.md").write_text(AGENTS)
    patch = make_patch(note(), incident(run()), journey=JOURNEY, agents_md=AGENTS)
    git(tmp_path, "apply", "-", text=patch.encode())
    now = (tmp_path / "agents.md").read_text()

    again = make_patch(note(), incident(run()), journey=JOURNEY, agents_md=now)

    assert again == ""


def test_a_file_without_the_section_gives_no_patch_that_could_fail_later() -> None:
    with pytest.raises(BadInput):
        make_patch(note(), incident(run()), journey=JOURNEY, agents_md="# other\n")
