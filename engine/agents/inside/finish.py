"""What is wrong with an output, said to the model so that it can mend it. The worker judges it again, for good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def faults(output: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    """In words; none: it has every required field, and each field with known values has one of them."""
    missing = [f"field {name!r} is missing" for name in schema.get("required", []) if name not in output]
    wrong = [
        f"field {name!r} is none of {', '.join(map(repr, rule['enum']))}"
        for name, rule in schema.get("properties", {}).items()
        if name in output and "enum" in rule and output[name] not in rule["enum"]
    ]
    return missing + wrong
