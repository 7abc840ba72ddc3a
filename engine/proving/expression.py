"""Conditions broken on purpose: each way in which a CEL expression could be a little wrong. Called by `mutants`.

The CEL library compiles and evaluates, and shows no tree; a reader of tokens is enough to change one of them.
https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from decimal import Decimal

_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
      | (?P<text>[rRbB]{0,2}(?:\"\"\".*?\"\"\"|'''.*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
      | (?P<number>0[xX][0-9a-fA-F]+[uU]?|(?:\d+\.\d+|\.\d+|\d+)(?:[eE][+-]?\d+)?[uU]?)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<mark>&&|\|\||[<>=!]=|.)""",
    re.VERBOSE | re.DOTALL,
)
_SWAPPED = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "&&": "||", "||": "&&"}
_FLIPPED = {"true": "false", "false": "true"}
_INTEGER = re.compile(r"\d+")
_DECIMAL = re.compile(r"\d*\.\d+")
HUNDREDTH = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Token:
    """One token: `kind` is space, text, number, name or mark."""

    kind: str
    word: str


def tokens(expression: str) -> tuple[Token, ...]:
    """Every token; joined they are the expression."""
    return tuple(Token(found.lastgroup or "", found.group()) for found in _TOKEN.finditer(expression))


def broken(expression: str) -> Iterator[str]:
    """The expression with one thing changed, each once: a number off by one or by a little, a comparison that takes or
    loses its edge, == for !=, && for ||, a negation dropped, a truth turned round, a text that is another."""
    read = tokens(expression)
    seen = {expression}
    for at, token in enumerate(read):
        for word in _instead(token):
            mutant = "".join(other.word for other in (*read[:at], Token(token.kind, word), *read[at + 1 :]))
            if mutant not in seen:
                seen.add(mutant)
                yield mutant


def renamed(expression: str, names: Collection[str], rename: Callable[[str], str]) -> str:
    """The expression with these variables renamed; a field (after a dot) or a function of that name is none."""
    read = tokens(expression)
    words = []
    for at, token in enumerate(read):
        before = next((other.word for other in reversed(read[:at]) if other.kind != "space"), "")
        after = next((other.word for other in read[at + 1 :] if other.kind != "space"), "")
        variable = token.kind == "name" and token.word in names and before != "." and after != "("
        words.append(rename(token.word) if variable else token.word)
    return "".join(words)


def _instead(token: Token) -> Iterator[str]:
    match token.kind:
        case "number":
            yield from _numbers(token.word)
        case "text":
            yield f"{token.word[:-1]}~{token.word[-1]}" if not token.word.endswith(('"""', "'''")) else '"~"'
        case "name" if token.word in _FLIPPED:
            yield _FLIPPED[token.word]
        case "mark" if token.word in _SWAPPED:
            yield _SWAPPED[token.word]
        case "mark" if token.word == "!":
            yield ""


def _numbers(word: str) -> Iterator[str]:
    """A whole number off by one. A fraction off by one, by one in its last place, and by a hundredth of itself."""
    if _INTEGER.fullmatch(word):
        yield from (_written(int(word) + step) for step in (-1, 1))
    elif _DECIMAL.fullmatch(word):
        value = Decimal(word)
        last_place = Decimal(1).scaleb(value.as_tuple().exponent)  # type: ignore[arg-type]  # finite: it has one
        for step in (Decimal(1), last_place, value * HUNDREDTH or HUNDREDTH):
            yield from (_written(value - step), _written(value + step))


def _written(value: int | Decimal) -> str:
    """As CEL reads it: a double keeps its point, and a negative number does not run into what is before it."""
    text = str(value) if isinstance(value, int) else f"{value:f}"
    return text if value >= 0 else f"({text})"
