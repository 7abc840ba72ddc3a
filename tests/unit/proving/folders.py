"""The demo's runbook in a folder of the test's own, to be edited, and what proving says about it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from engine.domain.runbook import Snapshot
from engine.proving import prove, proved
from engine.proving.proof import Proof
from engine.runbooks import Shelf
from tests.architecture.sources import REPOSITORY

NAME = "disk-full"


@dataclass
class Folder:
    """A copy of runbooks/."""

    path: Path

    @classmethod
    def copied(cls, path: Path) -> Folder:
        shutil.copytree(REPOSITORY / "runbooks", path / "runbooks")
        return cls(path / "runbooks")

    @property
    def tests(self) -> Path:
        return self.path / NAME / "tests.yaml"

    def edit(self, old: str, new: str, *, file: str = f"{NAME}/tests.yaml") -> None:
        """Replace what is there once."""
        text = (self.path / file).read_text()
        assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
        (self.path / file).write_text(text.replace(old, new))

    def edit_all(self, old: str, new: str, *, file: str = f"{NAME}/tests.yaml") -> None:
        text = (self.path / file).read_text()
        assert old in text
        (self.path / file).write_text(text.replace(old, new))

    def read(self) -> Snapshot:
        return Shelf(self.path).read(NAME)

    def prove(self) -> Proof:
        return prove(self.read())

    def problems(self) -> tuple[str, ...]:
        return proved(self.read())

    def survivors(self) -> set[tuple[str, str, str]]:
        return {(one.gate, one.check, one.mutant) for one in self.prove().survivors}
