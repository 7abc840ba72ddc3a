"""Faults on demand: what goes wrong with the next Web API calls. Set by the driver."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from demo.workspace.errors import CannotDo


class Kind(enum.StrEnum):
    """429: refused; http_500: refused with an error; lost_reply: carried out, then the connection breaks;
    hang: carried out, the answer comes late; down: the port refuses connections."""

    LIMITED = "429"
    HTTP_500 = "http_500"
    LOST_REPLY = "lost_reply"
    HANG = "hang"
    DOWN = "down"


@dataclass(slots=True, kw_only=True)
class Fault:
    """`times` calls of `method` ("*": any) go wrong. `seconds`: Retry-After, or how long it hangs."""

    kind: Kind
    method: str = "*"
    times: int = 1
    seconds: float = 1.0


def kind_of(name: str) -> Kind:
    """The kind of this name; raises CannotDo."""
    try:
        return Kind(name)
    except ValueError:
        raise CannotDo(f"no fault {name!r}; there are: {', '.join(Kind)}") from None


class Faults:
    """The faults that wait for their call."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Have the next matching calls go wrong."""
        self._waiting.append(fault)

    def clear(self) -> None:
        """All is well again."""
        self._waiting.clear()

    def take(self, method: str) -> Fault | None:
        """The fault of this call, if one waits."""
        for fault in self._waiting:
            if fault.method in ("*", method):
                fault.times -= 1
                if fault.times <= 0:
                    self._waiting.remove(fault)
                return fault
        return None
