"""How a command's output becomes a value: strictly, or not at all. Called by the kinds that run commands."""

from __future__ import annotations

import json
import re

from engine.domain.gate import Json, Parse

MAX_OUTPUT = 64 * 1024

_INT = re.compile(r"[+-]?\d{1,18}")
_PERCENT = re.compile(r"^\s*(\d{1,6}(?:\.\d{1,6})?)\s?%\s*$", re.MULTILINE)


def parse(stdout: str, how: Parse) -> Json:
    """The variable `out`; raises ValueError. INT: nothing but one integer. PERCENT: one line that is `N%`, as df's."""
    if len(stdout) > MAX_OUTPUT:
        raise ValueError(f"more than {MAX_OUTPUT // 1024} KiB")
    match how:
        case Parse.TEXT:
            return stdout
        case Parse.LINES:
            return list(stdout.splitlines())
        case Parse.JSON:
            return strict_json(stdout)
        case Parse.INT:
            if not _INT.fullmatch(stdout.strip()):
                raise ValueError("not one integer")
            return int(stdout)
        case Parse.PERCENT:
            found = _PERCENT.findall(stdout)
            if len(found) != 1:
                raise ValueError(f"{len(found)} lines with a percentage, not one")
            return float(found[0])


def strict_json(text: str) -> Json:
    """Plain JSON, where no key is there twice and no number is none; raises ValueError."""
    try:
        value: Json = json.loads(text, parse_constant=_refuse, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _refuse(name: str) -> Json:
    raise ValueError(f"{name} is not JSON")


def _once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found
