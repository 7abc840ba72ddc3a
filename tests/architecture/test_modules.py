"""The shape of the house: short modules that say what they are, named after something, and a domain that is pure."""

from __future__ import annotations

import ast
import sys

import pytest

from tests.architecture.sources import REPOSITORY, imports, modules, parse

MAX_LINES = 400
VAGUE = frozenset({"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc"})
# migrations are written once, by Alembic, and never edited after: their length is nobody's burden
SIZED = modules("engine", "bot", "demo", "bench", "tests", "scripts")


def test_the_folders_are_where_these_tests_look() -> None:
    assert {module.path.split("/")[0] for module in SIZED} >= {"engine", "bot", "demo", "bench", "tests"}


def test_a_module_has_at_most_400_lines() -> None:
    sizes = {module.path: len(module.text.splitlines()) for module in SIZED}

    assert {path: size for path, size in sizes.items() if size > MAX_LINES} == {}, "split it along what it says it is"


def test_every_module_that_holds_something_says_what_it_is() -> None:
    silent = [
        module.path
        for module in modules("engine", "bot", "demo", "bench")
        if module.tree.body and not _docstring(module.tree)
    ]

    assert silent == []


def _docstring(tree: ast.Module) -> str | None:
    return ast.get_docstring(tree)


def test_no_module_is_named_after_nothing_in_particular() -> None:
    vague = [
        module.path
        for module in modules("engine", "bot", "demo", "bench", "tests")
        if VAGUE & set(module.name.split("."))
    ]

    assert vague == []


def foreign(name: str) -> bool:
    """Whether the domain may not import this."""
    top = name.split(".", maxsplit=1)[0]
    return top not in sys.stdlib_module_names and not name.startswith("engine.domain.")


def test_the_domain_imports_only_the_standard_library_and_itself() -> None:
    wrong = [(module.path, name) for module in modules("engine/domain") for name in imports(module) if foreign(name)]

    assert wrong == []


@pytest.mark.parametrize(
    "line", ["import yaml", "from engine import settings", "from engine.store import models", "import cel"]
)
def test_a_vendor_or_another_room_in_the_domain_would_be_noticed(line: str) -> None:
    assert any(map(foreign, imports(parse("engine/domain/x.py", line))))


def test_every_package_has_its_init_so_that_contracts_see_it() -> None:
    folders = {path.parent for root in ("engine", "bot", "demo", "bench") for path in (REPOSITORY / root).rglob("*.py")}
    bare = [str(folder.relative_to(REPOSITORY)) for folder in sorted(folders) if not (folder / "__init__.py").exists()]

    assert [folder for folder in bare if not folder.endswith("/guest")] == [], "what runs in the guest is no package"
