"""Reads a runbook's YAML into plain values and remembers the line of each. Called by the shelf.

Refuses what a person could not mean and a reviewer could not see: anchors and aliases (they also make bombs), tags,
several documents, keys that are there twice, keys that YAML 1.1 does not read as text (`yes`, `1`). `on` is one of
those, and a key of the format: written so, it is text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

MAX_BYTES = 64 * 1024
MAX_DEPTH = 16
QUOTE = "put quotes around a value that has any of [ ] { } , : # in it, or close what the line opens"

Place = tuple[str | int, ...]
Value = None | bool | int | float | str | list["Value"] | dict[str, "Value"]

_TEXT = "tag:yaml.org,2002:str"
_ON = "on"
_PLAIN = frozenset(f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float"))


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong, for a person: where (both count from 1), what, how to mend it."""

    line: int
    column: int
    what: str
    mend: str


@dataclass(slots=True)
class Document:
    """The values of a YAML text, line and column of every place in it, and what was wrong with it as YAML."""

    value: Value = None
    spots: dict[Place, tuple[int, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def spot(self, place: Place) -> tuple[int, int]:
        """Line and column of this place, or of the nearest one around it."""
        while place and place not in self.spots:
            place = place[:-1]
        return self.spots.get(place, (1, 1))

    def problem(self, place: Place, what: str, mend: str) -> Problem:
        """A problem of this place."""
        return Problem(*self.spot(place), what, mend)


def read(text: str) -> Document:
    """Read a text. Nothing is raised: `problems` of the document says what is wrong."""
    document = Document()
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        document.problems.append(Problem(1, 1, f"more than {MAX_BYTES // 1024} KiB", "split the runbook"))
        return document
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        line, column = text.count("\n", 0, error.position) + 1, error.position - text.rfind("\n", 0, error.position)
        document.problems.append(Problem(line, column, f"not to be read: {error.reason}", "remove the character"))
        return document
    try:
        node = loader.get_single_node()
        if node is None:
            document.problems.append(Problem(1, 1, "the file is empty", "begin with `schema: runbook/v1`"))
        else:
            document.value = _Walk(loader, document).value(node, ())
    except yaml.MarkedYAMLError as error:
        spot = _spot(error.problem_mark) if error.problem_mark else (1, 1)
        what = ", ".join(part for part in (error.context, error.problem) if part)
        mend = QUOTE if what.startswith("while parsing a flow") else "mend the line or the one above it"
        document.problems.append(Problem(*spot, f"not to be read: {what}", mend))
    finally:
        document.problems += loader.problems
        loader.dispose()
    return document


class _Loader(yaml.SafeLoader):
    """Composes nodes, and notes what a runbook may not have. Depth is bounded before anything recurses."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.problems: list[Problem] = []
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it untyped
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed", mark)
        if event.anchor:
            self.problems.append(Problem(*_spot(mark), "anchors are not allowed", "write the value out"))
        if event.tag:
            self.problems.append(Problem(*_spot(mark), f"the tag {event.tag} is not allowed", "remove it"))
        if self._depth >= MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested more than {MAX_DEPTH} deep", mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Walk:
    """Turns nodes into plain values and notes where they stand."""

    def __init__(self, loader: yaml.SafeLoader, document: Document) -> None:
        self.loader = loader
        self.document = document

    def value(self, node: yaml.Node, place: Place) -> Value:
        self.document.spots.setdefault(place, _spot(node.start_mark))
        if isinstance(node, yaml.MappingNode):
            return dict(self._pairs(node, place))
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*place, number)) for number, item in enumerate(node.value)]
        return self._scalar(node)

    def _pairs(self, node: yaml.MappingNode, place: Place) -> Iterator[tuple[str, Value]]:
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            spot = _spot(key_node.start_mark)
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode) or not (key_node.tag == _TEXT or key == _ON):
                self._problem(spot, f"the key {_shown(key)} is not text to YAML", "rename it or put it in quotes")
                continue
            if key in seen:
                self._problem(spot, f"the key {key} is there twice", f"remove one; the other is on line {seen[key]}")
                continue
            seen[key] = spot[0]
            self.document.spots[*place, key] = spot
            yield key, self.value(value_node, (*place, key))

    def _scalar(self, node: yaml.Node) -> Value:
        if node.tag not in _PLAIN:
            return str(node.value)
        try:
            value: Value = self.loader.construct_object(node)
        except ValueError:
            self._problem(_spot(node.start_mark), f"{_shown(node.value)} is no number", "put it in quotes")
            return None
        return value

    def _problem(self, spot: tuple[int, int], what: str, mend: str) -> None:
        self.document.problems.append(Problem(*spot, what, mend))


def _spot(mark: yaml.Mark) -> tuple[int, int]:
    return mark.line + 1, mark.column + 1


def _shown(value: object) -> str:
    return str(value)[:40] if isinstance(value, str) else "that is no text"
