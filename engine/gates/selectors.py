"""Which series a PromQL query reads. Called by the kind `promql` to ask for their age.

Not a parser: a reader of tokens that may find too much (then a gate stays shut) and should find nothing too little.
https://prometheus.io/docs/prometheus/latest/querying/basics/
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
      | (?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)
      | (?P<number>0x[0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?:ms|[smhdwy])?(?:\d+(?:ms|[smhdwy]))*)
      | (?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_LABELS_FOLLOW = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
_WORDS = frozenset({"and", "or", "unless", "atan2", "bool", "offset", "inf", "nan"})


def selectors(query: str) -> tuple[str, ...]:
    """Every instant selector of the query (`name`, `name{...}`, `{...}`), each once, without its range."""
    tokens = [(m.lastgroup or "", m.group()) for m in _TOKEN.finditer(query) if m.lastgroup != "space"]
    found: dict[str, None] = {}
    at = 0
    while at < len(tokens):
        kind, word = tokens[at]
        if kind == "name":
            at = _name(tokens, at, found)
        elif word == "{":
            end = _closing(tokens, at, "}")
            found[_join(tokens[at:end])] = None
            at = end
        elif word == "[":
            at = _closing(tokens, at, "]")
        else:
            at += 1
    return tuple(found)


def _name(tokens: list[tuple[str, str]], at: int, found: dict[str, None]) -> int:
    """Read from a name onwards; returns where to go on."""
    word = tokens[at][1]
    following = tokens[at + 1][1] if at + 1 < len(tokens) else ""
    if word.lower() in _LABELS_FOLLOW:
        return _closing(tokens, at + 1, ")") if following == "(" else at + 1
    if word.lower() in _WORDS or following == "(" or following.lower() in {"by", "without"}:
        return at + 1
    end = _closing(tokens, at + 1, "}") if following == "{" else at + 1
    found[_join(tokens[at:end])] = None
    return end


def _closing(tokens: list[tuple[str, str]], at: int, mark: str) -> int:
    """The place after the closing mark; the end when it is missing (Prometheus will refuse such a query)."""
    while at < len(tokens) and tokens[at] != ("other", mark):
        at += 1
    return at + 1


def _join(tokens: list[tuple[str, str]]) -> str:
    return "".join(word for _, word in tokens)
