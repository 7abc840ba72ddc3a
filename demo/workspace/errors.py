"""How the workspace says no: to the app as Slack's `{"ok": false, "error": ...}`, to a person as a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]
""" One JSON object as it goes over the wire. """


class ApiError(Exception):
    """A Web API method refuses; `code` is Slack's error code, `extra` further fields of the answer."""

    def __init__(self, code: str, *, messages: Sequence[str] = (), **extra: Any) -> None:
        super().__init__(code)
        self.code = code
        self.messages = tuple(messages)
        self.extra = extra

    def answer(self) -> Json:
        """The body that Slack would send, in the form of https://docs.slack.dev/apis/web-api/#responses."""
        body: Json = {"ok": False, "error": self.code, **self.extra}
        if self.messages:
            body["response_metadata"] = {"messages": [f"[ERROR] {message}" for message in self.messages]}
        return body


class CannotDo(Exception):
    """A person (or a script that acts as one) asked for what the page would not offer; `str()` says why."""
