"""What happened between the app and the workspace: every byte received, every call, every delivery. For tests."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from demo.workspace.errors import Json


class Journal:
    """Grows for as long as the workspace runs. With a file, received text survives a restart, so that no leak is lost.

    The Authorization header is the one thing left out of the received text: the bot token belongs there.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.calls: list[Json] = []
        self.deliveries: list[Json] = []
        self._file = file
        self._received: list[str] = []
        if file is not None and file.exists():
            self._received.append(file.read_text())

    def receive(self, line: str, headers: Mapping[str, str], body: bytes) -> None:
        """Keep one request (or one answer to a delivery) as text, undecoded as far as text allows."""
        head = "\n".join(f"{name}: {value}" for name, value in headers.items() if name.lower() != "authorization")
        text = f"{line}\n{head}\n\n{body.decode(errors='backslashreplace')}\n\n"
        self._received.append(text)
        if self._file is not None:
            with self._file.open("a") as out:
                out.write(text)

    @property
    def received(self) -> str:
        """Everything that ever came in."""
        return "".join(self._received)

    def call(self, method: str, args: Json, status: int, answer: Json, fault: str = "") -> None:
        """Keep one Web API call."""
        row = {"at": time.time(), "method": method, "args": args, "status": status, "answer": answer, "fault": fault}
        self.calls.append(row)
