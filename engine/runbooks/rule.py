"""A lint rule: its id, its words, how it is checked, and two examples. Rules stand in `engine.runbooks.rules`.

An example is an edit of the skeleton, so that it can be run: the test of the rules holds each to what it shows.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from engine.runbooks import skeleton
from engine.runbooks.book import Book, Finding

Check = Callable[[Book], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Edit:
    """In the step `at` (or before all steps, when it is empty) `old` becomes `new`. `old` stands there once."""

    at: str
    old: str
    new: str

    def apply(self, text: str) -> str:
        """The text with this edit; raises ValueError when `old` is not there exactly once."""
        begin, end = _block(text, self.at)
        if text.count(self.old, begin, end) != 1:
            raise ValueError(f"{self.old!r} is not there exactly once in {self.at or 'the beginning'}")
        return text[:begin] + text[begin:end].replace(self.old, self.new) + text[end:]


@dataclass(frozen=True, slots=True)
class Example:
    """What a rule refuses, or allows: edits of the skeleton, and files added to its folder (or taken from it: None).

    `base`: what is bent, where it is not the skeleton.
    """

    edits: tuple[Edit, ...] = ()
    files: Mapping[str, bytes | None] = field(default_factory=dict)
    base: skeleton.Base = skeleton.SKELETON

    @property
    def text(self) -> str:
        """The whole YAML."""
        text = self.base.text
        for edit in self.edits:
            text = edit.apply(text)
        return text

    @property
    def folder(self) -> dict[str, bytes]:
        """The whole folder."""
        merged = {**self.base.files, **self.files}
        return {name: data for name, data in merged.items() if data is not None}

    def shown(self) -> str:
        """What differs from the skeleton, as a diff with a line around each change."""
        lines = list(difflib.unified_diff(self.base.text.splitlines(), self.text.splitlines(), lineterm="", n=1))
        shown = ["..." if line.startswith("@@") else line.rstrip() for line in lines[2:]]
        for name, data in self.files.items():
            shown += [
                f"... {name}" + ("" if data else " is gone"),
                *(f"+{line}" for line in (data or b"").decode().splitlines()),
            ]
        return "\n".join(shown[1:] if shown[:1] == ["..."] else shown)


def edit(at: str, old: str, new: str) -> Example:
    """An example of one edit."""
    return Example((Edit(at, old, new),))


def edits(*several: tuple[str, str, str]) -> Example:
    """An example of several edits."""
    return Example(tuple(Edit(*one) for one in several))


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `title` is its name, `text` the paragraph that explains it."""

    id: str
    title: str
    text: str
    check: Check
    bad: Example
    good: Example


def rule(rule_id: str, *, bad: Example, good: Example) -> Callable[[Check], Rule]:
    """Make a rule of a check: its name is the title, its docstring the paragraph."""

    def made(check: Check) -> Rule:
        text = " ".join(inspect.getdoc(check).split()) if check.__doc__ else ""  # type: ignore[union-attr]
        title = getattr(check, "__name__", rule_id).replace("_", " ")
        return Rule(rule_id, title, text, check, bad, good)

    return made


def _block(text: str, at: str) -> tuple[int, int]:
    """Where a step begins and ends in the skeleton's text; what stands before the steps, for none."""
    begins = [found.start() for found in re.finditer(r"^  - ", text, re.MULTILINE)]
    if not at:
        return 0, begins[0]
    for begin, end in zip(begins, [*begins[1:], len(text)], strict=True):
        if re.match(rf"  - \{{?id: {re.escape(at)}\b", text[begin:end]):
            return begin, end
    raise ValueError(f"there is no step {at}")
