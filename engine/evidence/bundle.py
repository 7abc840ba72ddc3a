"""An incident's evidence as one JSON file: the dossier, and the signed anchors that mention it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from engine.domain.digest import canonical
from engine.domain.errors import BadInput, TooLarge
from engine.domain.records import Dossier, as_json
from engine.evidence.line import Line

FORMAT: Literal["signalbox-evidence/1"] = "signalbox-evidence/1"
MAX_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Bundle:
    """`anchors`: whole signed lines, from the first to the last that mentions the incident."""

    format: Literal["signalbox-evidence/1"]
    dossier: Dossier
    anchors: tuple[str, ...]


_BUNDLE = TypeAdapter(Bundle)


def write(dossier: Dossier, anchors: Sequence[Line]) -> bytes:
    """The file; raises what `read` does, for what nobody could verify is no evidence."""
    bundle = Bundle(FORMAT, dossier, tuple(line.text for line in anchors))
    data = json.dumps(as_json(bundle), indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    read(data)
    return data


def read(data: bytes) -> Bundle:
    """A stranger's file. Only what `write` could have written is accepted: nothing in it goes unread.

    Raises TooLarge, BadInput.
    """
    if len(data) > MAX_BYTES:
        raise TooLarge(f"this file is larger than {MAX_BYTES >> 20} MB", "no incident has that much evidence")
    try:
        bundle = _BUNDLE.validate_json(data)  # first: it bounds how deep the JSON may nest
        raw = json.loads(data, object_pairs_hook=_once, parse_constant=_none_such, parse_float=_finite)
        if canonical(as_json(bundle)) == canonical(raw):
            return bundle
        why = "it holds something that Signalbox does not write"
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        why = f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"[:300]
    except (ValueError, OverflowError, RecursionError) as error:
        why = f"it is not the JSON that Signalbox writes ({type(error).__name__})"
    raise BadInput(f"this is no evidence bundle, or it was altered: {why}", "export it again, and keep it as it is")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A key that is there twice is read one way by us and another way by others."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _none_such(name: str) -> None:
    raise ValueError(name)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number
