"""Reads the playbooks of a runbook's folder as far as lint needs it. Called by `rules.playbooks`.

Every YAML file of a playbook's folder is read, whoever includes it: a list is one of plays or tasks, a mapping one of
variables. What lies in `files` and `templates` is carried to the target: data, of whatever kind, which no play may
include. Nothing of Ansible is run or needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from engine.domain.runbook import Script
from engine.runbooks import positions
from engine.runbooks.book import Book
from engine.runbooks.positions import Document, Place, Value

YAML = (".yml", ".yaml")
LISTS = ("tasks", "pre_tasks", "post_tasks", "handlers", "block", "rescue", "always")
""" Where tasks stand in a play or in a block. """
DATA = frozenset({"files", "templates"})
BUILTIN = ("ansible.builtin.", "ansible.legacy.")


@dataclass(frozen=True, slots=True)
class Entry:
    """A play, a block or a task, with where it stands."""

    file: str
    line: int
    keys: Mapping[str, Value]

    @property
    def where(self) -> str:
        """For people."""
        return f"{self.file}, line {self.line}"

    def module(self, *names: str) -> Value:
        """The arguments of one of these modules (by its short name) if it is a task of that; None otherwise."""
        for key, value in self.keys.items():
            if plain(key) in names:
                return {} if value is None else value
        return None


@dataclass(frozen=True)
class Folder:
    """All files of one playbook's folder, by their path within the runbook's folder."""

    path: str
    files: Mapping[str, bytes]
    documents: Mapping[str, Document] = field(default_factory=dict)

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Plays, blocks and tasks of every file, in order."""
        found: list[Entry] = []
        for file, document in self.documents.items():
            found += _entries(file, document, document.value, ())
        return tuple(found)

    @cached_property
    def texts(self) -> tuple[tuple[str, int, str], ...]:
        """Every text with its file and line, those of templates line by line."""
        found = [(file, *told) for file, document in self.documents.items() for told in _texts(document)]
        for file, data in self.files.items():
            if file not in self.documents:
                lines = data.decode("utf-8", "replace").splitlines()
                found += [(file, number, line) for number, line in enumerate(lines, 1) if "{{" in line or "{%" in line]
        return tuple(found)

    @cached_property
    def keys(self) -> tuple[tuple[str, int, str, Value], ...]:
        """Every key of every mapping with its file, line and value."""
        return tuple(
            (file, document.spot(place)[0], str(place[-1]), value)
            for file, document in self.documents.items()
            for place, value in _places(document.value, ())
            if place and isinstance(place[-1], str)
        )


def folders(book: Book) -> Iterator[tuple[Place, Script, Folder]]:
    """Each playbook that runs, with its folder; of two in one folder only the first, unless it is another place."""
    seen: set[str] = set()
    for place, step, script in book.plays():
        if script.file not in book.files or script.folder in seen:
            continue  # L022 says so
        seen.add(script.folder)
        parts = step.parts(script, book.files)
        documents = {
            path: positions.read(data.decode("utf-8", "replace"))
            for path, data in sorted(parts.items())
            if path.endswith(YAML) and not is_data(path.removeprefix(script.folder))
        }
        yield place, script, Folder(script.folder, parts, documents)


def is_data(path: str) -> bool:
    """Whether a file, by its path within the playbook's folder, is for the target and nothing that Ansible reads."""
    return not DATA.isdisjoint(path.split("/")[:-1])


def plain(key: str) -> str:
    """A module or a keyword by its short name."""
    for prefix in BUILTIN:
        key = key.removeprefix(prefix)
    return key


def _entries(file: str, document: Document, value: Value, place: Place) -> Iterator[Entry]:
    if not isinstance(value, list):
        return
    for number, item in enumerate(value):
        if isinstance(item, dict):
            here: Place = (*place, number)
            yield Entry(file, document.spot(here)[0], item)
            for key in LISTS:
                yield from _entries(file, document, item.get(key), (*here, key))


def _texts(document: Document) -> Iterator[tuple[int, str]]:
    for place, value in _places(document.value, ()):
        if isinstance(value, str):
            yield document.spot(place)[0], value


def _places(value: Value, place: Place) -> Iterator[tuple[Place, Value]]:
    yield place, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, (*place, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _places(inner, (*place, number))
