"""Rules on text that whoever can raise an alert chooses: L030, L035, L036. Its bounds are L010."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator

from engine.domain import template
from engine.domain.within import commands
from engine.runbooks.book import Book, Finding
from engine.runbooks.positions import Place
from engine.runbooks.rule import Example, edit, rule
from engine.runbooks.rules.words import pattern_fault

_INERT = re.compile(r"[A-Za-z0-9._:@/+=,-]*")
_TEXT_FOLLOWS = frozenset({"-c", "-e", "--eval", "--command", "--expression", "-exec", "-execdir", "-f"})
_SAFE = frozenset(string.ascii_letters + string.digits + "._:@/+=,-")
_TRIED = [*map(chr, range(128)), "\x85", "\xa0", "\u00e9", "\u0663", "\u2028", "\u202e", "\uff0f"]
""" ASCII, and of what lies beyond it: spaces, a letter, a digit, an end of a line, a mirror of text, another slash. """
_ATOM = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{\d*(?:,\d*)?\}|.", re.DOTALL)
_SYNTAX = frozenset("^$()?*+")
_SHELL_TEXT = re.compile(
    r"^[^#\n]*?(?:\beval\b|\b(?:ba|da|a|k|z)?sh\s+-[a-z]*c\s+(?:\"[^\"\n]*\$|\$)|\bos\.(?:system|popen)\(|\bshell\s*=\s*True)",
    re.MULTILINE,
)


@rule(
    "L030",
    bad=edit(
        "confirmed",
        "- {id: ill,",
        "- {id: jobs, type: command, target: production, parse: int, expect: out > 0,\n"
        "         run: [psql, -tAc, \"select 1 from jobs where unit = '{{ inputs.unit }}'\"]}\n"
        "      - {id: ill,",
    ),
    good=edit(
        "confirmed",
        "- {id: ill,",
        "- {id: jobs, type: command, target: production, parse: int, expect: out > 0,\n"
        '         run: [count-jobs, "--unit={{ inputs.unit }}"]}\n      - {id: ill,',
    ),
)
def untrusted_text_is_never_code(book: Book) -> Iterator[Finding]:
    """An input is a whole argument, or stands in one after `--name=` or within a path. It is never the program, never
    part of a text in some language (shell, SQL, awk: anything with spaces, quotes or signs), never what follows `-c`,
    `-e` or `-exec`. Paths of `http` checks and quoted values of queries are escaped by the engine."""
    for at, step in book.scripts():
        yield from _code(("steps", at, "args"), step.script.args, program_at=None)
        if step.rollback:
            yield from _code(("steps", at, "rollback", "args"), step.rollback.script.args, program_at=None)
    for place, _, check in book.checks():
        for argv in commands(check):
            yield from _code((*place, "run"), argv, program_at=0)


def _code(place: Place, argv: tuple[str, ...], *, program_at: int | None) -> Iterator[Finding]:
    for number, word in enumerate(argv):
        inputs = sorted(name for space, name in template.names(word) if space == "inputs")
        if not inputs:
            continue
        why = None
        if number == program_at:
            why = "is the program"
        elif number and argv[number - 1] in _TEXT_FOLLOWS:
            why = f"follows {argv[number - 1]}"
        elif not _INERT.fullmatch(template.PLACEHOLDER.sub("", word)):
            why = "is part of a text in some language"
        if why:
            what = f"input {inputs[0]} comes from an alert and {why}: {word[:60]}"
            yield Finding((*place, number), what, "make it an argument of its own")


@rule(
    "L035",
    bad=edit("", "'^[a-z][a-z0-9-]{0,30}$'", "'^[a-z][a-z ;-]{0,30}$'"),
    good=edit("", "'^[a-z][a-z0-9-]{0,30}$'", "'^[a-z][a-z0-9@._-]{0,30}$'"),
)
def inputs_are_inert(book: Book) -> Iterator[Finding]:
    """The pattern of an input lets in letters, digits and `. _ : @ / + = , -` only, of ASCII: nothing that a shell, a
    glob, a path or a reader takes for more than text, also where a script forgot to quote it. Not `.` and `/` together,
    which could lead upwards."""
    for rule_ in book.runbook.inputs:
        if rule_.pattern is None or pattern_fault(rule_.pattern):
            continue  # L010 says so
        fault = _liveliness(rule_.pattern)
        if fault:
            place: Place = ("inputs", rule_.name, "pattern")
            yield Finding(place, f"the pattern of input {rule_.name} {fault}", "write such as ^[a-z][a-z0-9-]{0,30}$")


def _liveliness(pattern: str) -> str | None:
    if "(?" in pattern:
        return "has (?...), which nobody reads right"
    try:
        letters = alphabet(pattern)
    except re.error:
        return "is not plain enough to be read"
    lively = sorted(letters - _SAFE)
    if lively:
        return f"lets in {', '.join(repr(one) for one in lively[:6])}" + (" and more" if len(lively) > 6 else "")
    if {".", "/"} <= letters or re.fullmatch(pattern, ".."):
        return "lets in a path that leads upwards"
    return None


def alphabet(pattern: str) -> frozenset[str]:
    """Every character (of those tried) that some value of the pattern may hold; raises re.error."""
    letters: set[str] = set()
    for atom in _ATOM.findall(pattern):
        if atom in _SYNTAX or (atom.startswith("{") and atom.endswith("}")):
            continue
        one = re.compile(atom)
        letters |= {char for char in _TRIED if one.fullmatch(char)}
    return frozenset(letters)


@rule(
    "L036",
    bad=Example(files={"rollback.sh": b'#!/bin/sh\nset -eu\nssh target -- sh -c "systemctl restart $1"\n'}),
    good=Example(files={"rollback.sh": b'#!/bin/sh\nset -eu\nssh target -- systemctl restart "$1"\n'}),
)
def scripts_make_no_code(book: Book) -> Iterator[Finding]:
    """A file of the folder is what it is: no placeholder in it is ever filled in, so that an alert's words never become
    a script's text or a prompt's instructions (they are in /step/inputs.json). And no script makes code out of values:
    no `eval`, no `sh -c "... $value"`, no `os.system`, no `shell=True`."""
    for name, data in sorted(book.files.items()):
        text = data.decode("utf-8", "replace")
        filled = sorted(f"{{{{ {space}.{key} }}}}" for space, key in template.names(text) if space == "inputs")
        if filled:
            what = f"{name} has {filled[0]}, which is not filled in there"
            yield Finding(("name",), what, "give it as an argument, or read /step/inputs.json")
        made = _SHELL_TEXT.search(text)
        if made:
            line = text.count("\n", 0, made.end()) + 1
            what = f"{name}, line {line}, makes code out of values"
            yield Finding(("name",), what, 'give them as arguments, in quotes: "$1"')
