"""Replays the kind `diff`: the files of an artefact, and of what it is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from engine.domain import archive
from engine.domain.gate import DiffCheck, Facts, Sample
from engine.gates import diff
from engine.proving.kinds.port import Answer, Kind, no_probe

Files = Annotated[dict[str, Annotated[str, Field(max_length=20_000)]], Field(max_length=100)]
ELSEWHERE = "a/b/c/d/e/f/elsewhere~"
EVERYWHERE = tuple("/".join("*" * parts) for parts in range(1, 9))


class DiffAnswer(Answer):
    """Path -> text of the artefact; `old` of the one that it goes beyond. Without `new` there is no artefact."""

    new: Files | None = None
    old: Files = {}  # noqa: RUF012 - a field of pydantic, copied


class Diff(Kind[DiffCheck, DiffAnswer]):
    """The artefacts are told."""

    answer = DiffAnswer

    def measure(self, check: DiffCheck, facts: Facts, answer: DiffAnswer) -> Sample:
        """See `Kind`."""
        artefacts = {} if answer.new is None else {check.of: _packed(answer.new)}
        if check.against is not None:
            artefacts[check.against] = _packed(answer.old)
        return diff.measure(check, replace(facts, artefacts=artefacts), no_probe)

    def never(self, check: DiffCheck, good: DiffAnswer) -> Iterable[tuple[str, DiffAnswer]]:
        """No artefact, no change, a file that lies elsewhere, one that is no text."""
        new = good.new or {}
        yield "no artefact", DiffAnswer(old=good.old)
        yield "nothing changed", good.model_copy(update={"new": good.old if check.against else {}})
        yield "a file elsewhere", good.model_copy(update={"new": {ELSEWHERE: "x\n"}})
        yield "a file that is no text", good.model_copy(update={"new": dict.fromkeys(new, "\0")})

    def broken(self, check: DiffCheck) -> Iterator[tuple[str, DiffCheck]]:
        """A limit off by one, a glob that is missing, and all of them."""
        for step in (-1, 1):
            yield f"max_files: {check.max_files + step}", replace(check, max_files=check.max_files + step)
            yield f"max_lines: {check.max_lines + step}", replace(check, max_lines=check.max_lines + step)
        for glob in check.allow:
            yield f"allow: without {glob}", replace(check, allow=tuple(one for one in check.allow if one != glob))
        yield "allow: everything", replace(check, allow=EVERYWHERE)


def _packed(files: dict[str, str]) -> bytes:
    return archive.pack({path: text.encode() for path, text in files.items()})
