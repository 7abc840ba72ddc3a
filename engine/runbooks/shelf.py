"""The shelf: runbooks on disk -> snapshots, or every problem at once. Implements the port `RunbookShelf`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.domain.alert import Alert
from engine.domain.digest import snapshot_digest
from engine.domain.directory import Directory
from engine.domain.errors import BadInput
from engine.domain.runbook import Runbook, Snapshot
from engine.runbooks import convert, folder, positions, shape
from engine.runbooks.book import Book
from engine.runbooks.format import RunbookEdge
from engine.runbooks.lint import lint
from engine.runbooks.positions import Document, Problem

_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
SHOWN = 40


class Shelf:
    """The folder of runbooks: NAME.yaml, and NAME/ with its scripts. Nothing is cached."""

    def __init__(self, folder: Path, images: Iterable[str] | None = None, directory: Directory | None = None) -> None:
        """`images`: the guest images that lie on this machine; `directory`: where names lead. Of what is not given
        nothing is said: a process that drives no run has no images."""
        self.folder = folder
        self._known = Known(None if images is None else frozenset(images), directory)

    @staticmethod
    def is_name(text: str) -> bool:
        """Whether a runbook may be called so."""
        return _NAME.fullmatch(text) is not None

    def names(self) -> tuple[str, ...]:
        """Every runbook that lies there, whether it loads or not."""
        return tuple(sorted(path.stem for path in self.folder.glob("*.yaml") if _NAME.fullmatch(path.stem)))

    def valid(self) -> tuple[str, ...]:
        """Names of the runbooks that read without a problem."""
        return tuple(name for name in self.names() if self._reads(name))

    def _reads(self, name: str) -> bool:
        try:
            self.read(name)
        except BadInput:
            return False
        return True

    def read(self, name: str) -> Snapshot:
        """Parse, validate and lint; raises BadInput whose message is one line a problem: `file:line: what - mend`."""
        source, files = self.texts(name)
        return _snapshot(source, files, str(self.folder / f"{name}.yaml"), name, self._known)

    def texts(self, name: str) -> tuple[str, dict[str, bytes]]:
        """The YAML and the files of the folder as they are now; raises BadInput when they cannot be read."""
        if not _NAME.fullmatch(name):
            raise BadInput(f"{name[:60]!r} is no name of a runbook", f"there is {', '.join(self.names()) or 'none'}")
        path = self.folder / f"{name}.yaml"
        if not path.exists():
            raise BadInput(f"there is no runbook {name}", f"there is {', '.join(self.names()) or 'none'}")
        try:
            return folder.text(path), folder.files(self.folder / name)
        except folder.Unreadable as error:
            raise _refusal(str(path), [error.problem]) from None

    def restore(self, source: str, files: Mapping[str, bytes]) -> Snapshot:
        """A snapshot from what a run stored, held to the same rules; raises BadInput."""
        return _snapshot(source, files, "the stored runbook", None)

    def draft(self, name: str) -> Runbook:
        """What is there now, held to its shape only: to be looked at, never to be run. Raises BadInput."""
        source, _ = self.texts(name)
        return shaped(source, str(self.folder / f"{name}.yaml"))[1]

    def matching(self, alert: Alert) -> tuple[str, ...]:
        """The runbooks whose trigger takes this alert. A broken file never matches."""
        return tuple(name for name in self.names() if self._takes(name, alert))

    def _takes(self, name: str, alert: Alert) -> bool:
        try:
            runbook = self.read(name).runbook
        except BadInput:
            return False
        severe = not runbook.severities or alert.severity in runbook.severities
        return severe and alert.name in runbook.alertnames


@dataclass(frozen=True, slots=True)
class Known:
    """What a machine knows beside the runbook itself."""

    images: frozenset[str] | None = None
    directory: Directory | None = None


NOTHING_KNOWN = Known()


def shaped(source: str, where: str) -> tuple[RunbookEdge, Runbook, Document]:
    """A text as the engine would use it, held to its shape and to no rule; raises BadInput."""
    document = positions.read(source)
    if document.problems and document.value is None:
        raise _refusal(where, document.problems)
    file = shape.validate(document)
    if file is None or document.problems:
        raise _refusal(where, document.problems)
    return file, convert.runbook(file), document


def _snapshot(
    source: str, files: Mapping[str, bytes], where: str, name: str | None, known: Known = NOTHING_KNOWN
) -> Snapshot:
    file, runbook, document = shaped(source, where)
    book = Book(file=file, runbook=runbook, files=files, images=known.images, directory=known.directory)
    problems = list(lint(book, document))
    if name is not None and name != file.name:
        problems.append(document.problem(("name",), f"the name {file.name} is not the file's", f"write `name: {name}`"))
    if problems:
        raise _refusal(where, problems)
    return Snapshot(runbook=runbook, source=source, files=dict(files), digest=snapshot_digest(source, files))


def _refusal(where: str, problems: Iterable[Problem]) -> BadInput:
    ordered = sorted(problems)
    lines = [f"{where}:{one.line}:{one.column}: {one.what} - {one.mend}" for one in ordered[:SHOWN]]
    if len(ordered) > SHOWN:
        lines.append(f"{where}: and {len(ordered) - SHOWN} more")
    return BadInput("\n".join(lines), "mend the runbook; a run that is under way keeps the one that it started with")
