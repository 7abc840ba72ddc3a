"""Gate kind `diff`: how far an artefact goes. Computed by us from its bytes; never independent. Called by `kinds()`.

What it counts is what a person would have to read: every line that comes or goes, by the shortest way from one text to
the other; at least one a file. Paths are compared part by part: a glob never reaches below a folder that it does not
name.
"""

from __future__ import annotations

import fnmatch
import unicodedata
from collections.abc import Mapping, Sequence

from engine.domain import archive
from engine.domain.errors import BadInput
from engine.domain.gate import Check, DiffCheck, Facts, Json, Sample
from engine.domain.ports import Probe
from engine.domain.states import Verdict
from engine.gates import evidence

MAX_TEXT_LINES = 20_000
MAX_LINE = 4096
SHOWN = 50


def measure(check: Check, facts: Facts, probe: Probe) -> Sample:  # noqa: ARG001 - the port has it
    """Compare. No artefact, or an empty change, is INCONCLUSIVE; a wicked archive ERROR; too far FAILED."""
    if not isinstance(check, DiffCheck):
        return Sample(verdict=Verdict.ERROR, why="not a diff check")
    for step in (check.of, check.against):
        if step is not None and step not in facts.artefacts:
            why = f"there is no artefact of {step}"
            return Sample(verdict=Verdict.INCONCLUSIVE, why=why, no_data=True)
    try:
        new = archive.unpack(facts.artefacts[check.of])
        old = archive.unpack(facts.artefacts[check.against]) if check.against else {}
        return _judge(check, old, new)
    except (BadInput, ValueError) as error:
        return Sample(verdict=Verdict.ERROR, why=str(error)[:500])


def _judge(check: DiffCheck, old: Mapping[str, bytes], new: Mapping[str, bytes]) -> Sample:
    changed = sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))
    seen: dict[str, Json] = {"files": [evidence.text(path, 200) for path in changed[:SHOWN]], "changed": len(changed)}
    if not changed:
        return Sample(verdict=Verdict.INCONCLUSIVE, why="nothing is changed", seen=seen, no_data=True)
    fault = _fault_of_names(changed, {*old, *new}, check.allow)
    if fault is None and len(changed) > check.max_files:
        fault = f"{len(changed)} files are changed, more than {check.max_files}"
    if fault:
        return Sample(verdict=Verdict.FAILED, why=fault, seen=seen)
    lines = 0
    for path in changed:
        before, after = (_lines(path, files.get(path, b"")) for files in (old, new))
        counted = distance(before, after, check.max_lines - lines)
        lines += max(1, counted or 0)
        if counted is None or lines > check.max_lines:
            why = f"more than {check.max_lines} lines are changed"
            return Sample(verdict=Verdict.FAILED, why=why, seen=seen)
    seen["lines"] = lines
    why = f"{len(changed)} files and {lines} lines are changed, within {', '.join(check.allow)}"
    return Sample(verdict=Verdict.HELD, why=why, seen=seen)


def _fault_of_names(changed: Sequence[str], every: set[str], allow: Sequence[str]) -> str | None:
    for path in changed:
        fault = path_fault(path)
        if fault:
            return f"{evidence.brief(path)} {fault}"
        if not any(matches(path, glob) for glob in allow):
            return f"{evidence.brief(path)} is not within {', '.join(allow)}"
    folded = [path.casefold() for path in every]
    if len(set(folded)) != len(folded):
        return "two paths differ in capitals only"
    return None


def path_fault(path: str) -> str | None:
    """Why a path is refused, or None. Plain ASCII only: a letter that looks like another names another file."""
    if path != unicodedata.normalize("NFC", path) or not path.isascii() or not path.isprintable():
        return "has characters that may look like others"
    if path.startswith("/") or "\\" in path or ":" in path:
        return "is no relative path"
    if {"", ".", ".."} & set(path.split("/")):
        return "leads elsewhere than it seems"
    return None


def matches(path: str, glob: str) -> bool:
    """Whether a path matches, part by part: `*` is within one part, and nothing is any number of parts."""
    parts, globs = path.split("/"), glob.split("/")
    return len(parts) == len(globs) and all(map(fnmatch.fnmatchcase, parts, globs))


def _lines(path: str, data: bytes) -> list[bytes]:
    """The lines of a text; raises ValueError for what nobody could read line by line."""
    lines = data.split(b"\n")
    if len(lines) > MAX_TEXT_LINES:
        raise ValueError(f"{path} has more than {MAX_TEXT_LINES} lines")
    if b"\0" in data or any(len(line) > MAX_LINE for line in lines):
        raise ValueError(f"{path} is no text, or has a line of more than {MAX_LINE} bytes: nobody can judge its size")
    return lines[:-1] if not lines[-1] else lines


def distance(old: Sequence[bytes], new: Sequence[bytes], limit: int) -> int | None:
    """How many lines come and go at least, from one to the other; None when it is more than `limit`.

    Myers' greedy algorithm, which ends at the limit: no text can make it compute for long.
    https://doi.org/10.1007/BF01840446
    """
    reach = {1: 0}  # diagonal -> how far of `old` the best path has come
    for edits in range(max(limit, -1) + 1):
        for diagonal in range(-edits, edits + 1, 2):
            down = diagonal == -edits or (diagonal != edits and reach[diagonal - 1] < reach[diagonal + 1])
            at = reach[diagonal + 1] if down else reach[diagonal - 1] + 1
            while at < len(old) and at - diagonal < len(new) and old[at] == new[at - diagonal]:
                at += 1
            reach[diagonal] = at
            if at >= len(old) and at - diagonal >= len(new):
                return edits
    return None
