"""Our Python sources, parsed. Used by the tests of this folder."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
OURS = ("engine", "bot", "demo", "bench", "tests", "scripts", "migrations")


@dataclass(frozen=True)
class Module:
    """One file: its path from the repository's root, dotted name, text and tree."""

    path: str
    name: str
    text: str
    tree: ast.Module


def parse(path: str, text: str) -> Module:
    """A module from its text (also one that a test made up)."""
    name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return Module(path, name, text, ast.parse(text, path))


@cache
def _below(root: str) -> tuple[Module, ...]:
    return tuple(
        parse(path.relative_to(REPOSITORY).as_posix(), path.read_text())
        for path in sorted((REPOSITORY / root).rglob("*.py"))
        if "__pycache__" not in path.parts
    )


def modules(*roots: str) -> tuple[Module, ...]:
    """Every module below these folders of the repository."""
    return tuple(module for root in roots for module in _below(root))


def imports(module: Module) -> Iterator[str]:
    """The dotted name of everything that the module imports."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module.name.split(".")[: -node.level] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def bindings(module: Module) -> dict[str, str]:
    """Local name -> dotted name, of everything that the module imports: `models` -> `engine.store.models`."""
    found: dict[str, str] = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    """`runs.end_attempt` -> `engine.store.runs.end_attempt`; empty for what is no chain of names."""
    match node:
        case ast.Name(id=name):
            return names.get(name, name)
        case ast.Attribute(value=value, attr=attr):
            base = dotted(value, names)
            return f"{base}.{attr}" if base else ""
    return ""
