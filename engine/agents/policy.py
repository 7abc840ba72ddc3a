"""What an agent may do: each call of a tool held to what the runbook grants its step. Used by the loop's host side.

A call comes from a model, so from anybody. Nothing is mended here: what is not plainly allowed is refused, and the one
line that says so names what is allowed instead. What a `CommandRule` means is said in `engine.domain.agent`.
"""

from __future__ import annotations

import enum
import re
import shlex
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from engine.agents import paths
from engine.domain.agent import CommandRule, Tool, ToolCall, Tools, Where
from engine.domain.gate import Json

MAX_WORDS = 64
MAX_WORD = 4096
MAX_CONTENT = 256 * 1024  # bytes
MAX_QUERY = 2000
MAX_CONTAINS = 200
MAX_ASKED = 1000  # characters of a command that a person is to judge
MAX_NAMED = 160
MAX_WHY = 1200
ANY, REST = "*", "**"
HTTP = re.compile(r"https?://(?=[^/])")
NO_TEXT = re.compile("[\\0\ud800-\udfff]")
ABSOLUTE_WITHIN = re.compile(r"""[=@,:;|&<>("'`\s]/""")


class Decision(enum.StrEnum):
    """What becomes of a call."""

    ALLOW = "allow"
    ASK = "ask"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """The decision. `why`: one line, for the model of a refusal, for a person of what is asked; empty when allowed.

    `argv` (run, logs), `on` (run, logs) and `path` (read, write) are what was judged: what is done is this.
    """

    decision: Decision
    why: str = ""
    argv: tuple[str, ...] = ()
    path: str = ""
    on: Where = Where.VM


class _No(Exception):
    """Not allowed; the message says what is not, and what is."""


def rule_on(call: ToolCall, tools: Tools) -> Ruling:
    """Whether this call may be made. Never raises, whatever the arguments are."""
    try:
        return _RULES[call.tool](call.args, tools)
    except _No as error:
        return Ruling(decision=Decision.REFUSE, why=_line(str(error), MAX_WHY))


def said(rule: CommandRule) -> str:
    """A rule as the model is told it."""
    return " ".join(word if word in {ANY, REST} or _is_folder(word) else shlex.quote(word) for word in rule.argv)


# -- one tool each ----------------------------------------------------------------------------------------------------


def _run(args: Mapping[str, Json], tools: Tools) -> Ruling:
    _known(args, "argv", "on")
    argv, on = _argv(args.get("argv")), _where(args.get("on", Where.VM.value))
    rules = [rule for rule in tools.run if rule.on is on]
    matching = [rule for rule in rules if _matches(argv, rule.argv)]
    if not matching:
        raise _No(_why_not(argv, on, rules))
    if not any(rule.ask for rule in matching):
        return Ruling(decision=Decision.ALLOW, argv=argv, on=on)
    command = shlex.join(argv)
    if len(command) > MAX_ASKED or not (command.isascii() and command.isprintable()):
        raise _No(f"a person must say yes to this command, and cannot read it: at most {MAX_ASKED} plain characters")
    where = "on the target" if on is Where.TARGET else "in the step's VM"
    return Ruling(decision=Decision.ASK, why=f"run {where}: {command}", argv=argv, on=on)


def _read(args: Mapping[str, Json], tools: Tools) -> Ruling:
    _known(args, "path")
    return Ruling(decision=Decision.ALLOW, path=_path(args, "read", tools.reads))


def _write(args: Mapping[str, Json], tools: Tools) -> Ruling:
    _known(args, "path", "content")
    path, content = _path(args, "write", tools.writes), args.get("content")
    if not isinstance(content, str):
        raise _No("`content` must be text")
    if len(content) > MAX_CONTENT or len(content.encode("utf-8", "replace")) > MAX_CONTENT:
        raise _No(f"`content` is longer than {MAX_CONTENT} bytes")
    if NO_TEXT.search(content.replace("\0", "")):
        raise _No("`content` holds half a character, which no file keeps")
    return Ruling(decision=Decision.ALLOW, path=path)


def _metrics(args: Mapping[str, Json], tools: Tools) -> Ruling:
    """Which metrics the query reads is found where it is asked: there is the reader of queries."""
    _known(args, "query")
    _text(args, "query", MAX_QUERY)
    if not tools.metrics:
        raise _No("this step is granted no metrics")
    return Ruling(decision=Decision.ALLOW)


def _logs(args: Mapping[str, Json], tools: Tools) -> Ruling:
    _known(args, "name", "contains")
    name = _text(args, "name", MAX_NAMED)
    if args.get("contains") is not None:
        _text(args, "contains", MAX_CONTAINS)
    for source in tools.logs:
        if source.name == name:
            return Ruling(decision=Decision.ALLOW, argv=source.argv, on=Where.TARGET)
    raise _No(f"there is no log {_named(name)}; there is: {_listed(source.name for source in tools.logs)}")


_RULES: Mapping[Tool, Callable[[Mapping[str, Json], Tools], Ruling]] = {
    Tool.RUN: _run,
    Tool.READ: _read,
    Tool.WRITE: _write,
    Tool.METRICS: _metrics,
    Tool.LOGS: _logs,
}


# -- commands ---------------------------------------------------------------------------------------------------------


def _matches(argv: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    is_open = pattern[-1:] == (REST,)
    fixed = pattern[:-1] if is_open else pattern
    if len(argv) < len(fixed) or (len(argv) > len(fixed) and not is_open):
        return False
    rest = argv[len(fixed) :]
    return all(map(_fits, argv, fixed)) and all(_fits(word, ANY) for word in rest)


def _fits(word: str, pattern: str) -> bool:
    if pattern == ANY:
        return not word.startswith(("-", "/")) and not _word_trouble(word)
    if _is_folder(pattern):
        return not paths.trouble(word) and paths.within(word, pattern)
    return word == pattern


def _is_folder(word: str) -> bool:
    return word.startswith("/") and word.endswith(paths.ANYTHING)


def _word_trouble(word: str) -> str:
    """Why no wildcard takes this word, whatever rule there is; empty when one might."""
    if word.startswith("/"):
        return paths.trouble(word)
    if not word:
        return "it is empty"
    if not word.isprintable():
        return "it holds a control character, or another that cannot be seen"
    if unicodedata.normalize("NFC", word) != word:
        return "it is not in Unicode's normal form"
    if ".." in re.split(r"[/=@,:\s]", word):
        return "it leads back with `..`: name the whole path, from /"
    if ABSOLUTE_WITHIN.search(HTTP.sub("", word, count=1) if HTTP.match(word) else word):
        return "it holds an absolute path: a path is a word of its own"
    return ""


def _why_not(argv: tuple[str, ...], on: Where, rules: list[CommandRule]) -> str:
    where = "on the target" if on is Where.TARGET else "in the VM"
    literal = {word for rule in rules for word in rule.argv}
    found = next(((word, why) for word in argv if word not in literal and (why := _word_trouble(word))), None)
    wrong = f" ({_named(found[0])}: {found[1]})" if found else ""
    allowed = _listed(said(rule) for rule in rules)
    return f"{_named(shlex.join(argv))} is not allowed {where}{wrong}; allowed there: {allowed}"


# -- arguments --------------------------------------------------------------------------------------------------------


def _known(args: Mapping[str, Json], *names: str) -> None:
    odd = sorted(str(name) for name in args if name not in names)
    if odd:
        raise _No(f"there is no argument {_named(odd[0])}; there is: {', '.join(names)}")


def _argv(value: Json) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise _No('`argv` must be a list of words, as ["df", "/srv"]: no shell reads it')
    words = tuple(word for word in value if isinstance(word, str))
    if len(words) < len(value):
        raise _No("`argv` holds something that is no text: each word is text")
    if len(words) > MAX_WORDS or any(len(word) > MAX_WORD for word in words):
        raise _No(f"the command is too long: at most {MAX_WORDS} words of {MAX_WORD} characters")
    if any(NO_TEXT.search(word) for word in words):
        raise _No("a word holds NUL or half a character, which no program takes")
    return words


def _where(value: Json) -> Where:
    if isinstance(value, str) and value in set(Where):
        return Where(value)
    raise _No(f"`on` must be {' or '.join(Where)}")


def _path(args: Mapping[str, Json], verb: str, patterns: tuple[str, ...]) -> str:
    path = args.get("path")
    if not isinstance(path, str):
        raise _No("`path` must be text")
    why = paths.trouble(path)
    if why or not any(paths.within(path, pattern) for pattern in patterns):
        wrong = f" ({why})" if why else ""
        raise _No(f"you may not {verb} {_named(path)}{wrong}; you may {verb}: {_listed(patterns)}")
    return path


def _text(args: Mapping[str, Json], name: str, most: int) -> str:
    value = args.get(name)
    if not isinstance(value, str) or not value or len(value) > most or not value.isprintable():
        raise _No(f"`{name}` must be one line of text, at most {most} characters")
    return value


def _named(text: str) -> str:
    return f"`{_line(text, MAX_NAMED)}`"


def _listed(names: Iterable[str]) -> str:
    return "; ".join(names) or "nothing"


def _line(text: str, most: int) -> str:
    """In one line, with what cannot be seen escaped."""
    shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text[:most])
    return shown if len(text) <= most else f"{shown}..."
