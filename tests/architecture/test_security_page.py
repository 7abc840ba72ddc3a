"""docs/security.md is true: each test that it names exists, and it is linked from README."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.architecture.sources import REPOSITORY

PAGE = REPOSITORY / "docs" / "security.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def named(text: str) -> set[tuple[str, str]]:
    """The tests that a text names: file, function."""
    return {(file, function) for file, function in NAMED.findall(text)}


def missing(text: str, root: Path = REPOSITORY) -> list[str]:
    """Those that do not exist."""
    return sorted(f"{file}::{function}" for file, function in named(text) if function not in _tests(root / file))


def _tests(file: Path) -> set[str]:
    if not file.is_file():
        return set()
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.parse(file.read_text()).body if isinstance(node, functions)}


def test_every_test_that_the_page_names_exists() -> None:
    text = PAGE.read_text()

    assert len(named(text)) > 30, "the tests are not found any more: mend this test"
    assert text.count("tests/") == len(NAMED.findall(text)), "each is named as `file::function`"
    assert missing(text) == []


def test_a_test_that_does_not_exist_would_be_noticed() -> None:
    text = (
        "`tests/architecture/test_security_page.py::test_every_test_that_the_page_names_exists` "
        "`tests/architecture/test_security_page.py::test_nothing` `tests/nowhere.py::test_x`"
    )

    assert missing(text) == ["tests/architecture/test_security_page.py::test_nothing", "tests/nowhere.py::test_x"]


def test_readme_leads_to_it() -> None:
    assert "(docs/security.md)" in (REPOSITORY / "README.md").read_text()
