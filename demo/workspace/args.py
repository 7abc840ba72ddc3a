"""Arguments of a Web API call: query, form and JSON body merged (https://docs.slack.dev/apis/web-api/#basics)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from demo.workspace.errors import ApiError, Json

TRUE = frozenset({"1", "true", "True"})


def merged(query: Mapping[str, str], content_type: str, body: bytes) -> Json:
    """All arguments of one request; raises ApiError when the body is not what its type says."""
    values: Json = dict(query)
    kind = content_type.partition(";")[0].strip().lower()
    if not body:
        return values
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise ApiError("invalid_charset") from None
    if kind == "application/json":
        try:
            parsed = json.loads(text)
        except ValueError:
            raise ApiError("invalid_json") from None
        if not isinstance(parsed, dict):
            raise ApiError("json_not_object")
        values |= parsed
    elif kind == "application/x-www-form-urlencoded":
        values |= dict(parse_qsl(text, keep_blank_values=True))
    else:
        raise ApiError("invalid_post_type")
    return values


class Args:
    """Typed looks into the merged arguments. Empty strings count as absent."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = {name: value for name, value in values.items() if value is not None}

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def require(self, *names: str) -> None:
        """Raise Slack's `invalid_arguments` for each that is missing."""
        missing = [name for name in names if self._values.get(name, "") == ""]
        if missing:
            raise ApiError("invalid_arguments", messages=[f"missing required field: {name}" for name in missing])

    def text(self, name: str, default: str = "") -> str:
        """A string; numbers are taken as their digits."""
        value = self._values.get(name, default)
        if isinstance(value, str):
            return value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        raise ApiError("invalid_arguments", messages=[f"must be a string [json-pointer:/{name}]"])

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A boolean: true, "true", 1 or "1"."""
        value = self._values.get(name, default)
        return value if isinstance(value, bool) else str(value) in TRUE

    def number(self, name: str, default: int, most: int) -> int:
        """A whole number from 1 to `most`."""
        try:
            value = int(self._values.get(name, default) or default)
        except (TypeError, ValueError):
            raise ApiError("invalid_arguments", messages=[f"must be an integer [json-pointer:/{name}]"]) from None
        if value < 1:
            raise ApiError("invalid_limit")
        return min(value, most)

    def words(self, name: str) -> list[str]:
        """A comma separated list, or a JSON list of strings."""
        value = self._values.get(name, "")
        parts = value if isinstance(value, list) else str(value).split(",")
        return [str(part).strip() for part in parts if str(part).strip()]

    def structure(self, name: str, error: str) -> Any:
        """JSON given as such or as text; None when absent; raises ApiError(`error`) when it does not parse."""
        value = self._values.get(name)
        if value is None or value == "":
            return None
        if isinstance(value, str):
            try:
                return json.loads(value)
            except ValueError:
                raise ApiError(error) from None
        return value
