"""What lint says of a text and its folder on the machine of the examples."""

from __future__ import annotations

from collections.abc import Mapping

from engine.runbooks import skeleton
from engine.runbooks.book import Book
from engine.runbooks.lint import lint
from engine.runbooks.shelf import shaped


def said(text: str, files: Mapping[str, bytes]) -> list[str]:
    """Every problem, in words."""
    file, runbook, document = shaped(text, "the example")
    book = Book(file=file, runbook=runbook, files=files, images=skeleton.IMAGES, directory=skeleton.DIRECTORY)
    return [f"{found.what} - {found.mend}" for found in lint(book, document)]


def rules(problems: list[str]) -> set[str]:
    """The ids of the rules that they come from."""
    return {problem[-5:-1] for problem in problems}
