"""Redaction within JSON: each text by itself, so that what is left is JSON still."""

from __future__ import annotations

import json

from engine.domain.gate import Json
from engine.domain.ports import Redactor


def cleaned(value: Json, redactor: Redactor) -> Json:
    """The same value with every secret in its texts and names masked.

    Arguments of a call that came as a text of JSON are cleaned as what they say, for a mask may end within an escape.
    """
    if isinstance(value, str):
        return redactor(value)
    if isinstance(value, dict):
        return {redactor(name): _cleaned_field(name, each, redactor) for name, each in value.items()}
    if isinstance(value, list):
        return [cleaned(each, redactor) for each in value]
    return value


def _cleaned_field(name: str, value: Json, redactor: Redactor) -> Json:
    if name == "args" and isinstance(value, str):
        try:
            return json.dumps(cleaned(json.loads(value), redactor), ensure_ascii=False)
        except (ValueError, RecursionError):
            return redactor(value)
    return cleaned(value, redactor)
