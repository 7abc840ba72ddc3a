"""What the files of a runbook are made of: names, durations, conditions. Used by `format` and `check_format`."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, WithJsonSchema

DURATION = r"^[1-9][0-9]{0,4}[smh]$"
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def _seconds(value: object) -> int:
    if not isinstance(value, str) or not re.fullmatch(DURATION[1:-1], value):
        raise ValueError("a duration is a whole number with s, m or h, such as 90s, 10m, 1h")
    return int(value[:-1]) * _SECONDS[value[-1]]


Duration = Annotated[int, BeforeValidator(_seconds), WithJsonSchema({"type": "string", "pattern": DURATION})]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$", description="lower case letters, digits, hyphens")]
InputName = Annotated[str, Field(pattern=r"^[a-z][a-z_]{0,39}$", description="lower case letters and underscores")]
Sentence = Annotated[str, Field(min_length=1, max_length=200)]
Reason = Annotated[str, Field(min_length=10, max_length=500, description="a reason that a reviewer can judge")]
User = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$", description="a user name")]
File = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$",
        max_length=200,
        description="a file of the runbook's folder, by its path within it",
    ),
]
Word = Annotated[str, Field(max_length=1000)]
Condition = Annotated[str, Field(min_length=1, max_length=500, description="a CEL expression; only true holds")]
Port = Annotated[int, Field(ge=1, le=65535)]


class Edge(BaseModel):
    """Base of everything in the file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=False)


def tagged(key: str, prefix: str) -> Discriminator:
    """Tell the members of a union apart by the text of one key. Tags have a colon, so no key of the file is one."""

    def tag(raw: Any) -> str:
        return f"{prefix}:{raw.get(key)}" if isinstance(raw, dict) else f"{prefix}:"

    return Discriminator(tag, custom_error_type=f"unknown_{key}", custom_error_message=f"unknown {key}")
