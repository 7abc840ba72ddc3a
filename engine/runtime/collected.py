"""Files of a guest on their way to the host: each is named with its digest, then its bytes follow. Used by the channel.

The guest names the files, so every name is judged, their number and size are bounded, and every digest is compared.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from engine.domain import archive
from engine.runtime.frames import BrokenProtocol, Frame, Kind, json_object


@dataclass(slots=True)
class _File:
    """One, as far as it has come."""

    sha256: object
    content: bytearray = field(default_factory=bytearray)


class Collected:
    """Takes the frames that answer a request for files, but for the last. `take` raises BrokenProtocol."""

    def __init__(self, max_files: int, max_bytes: int) -> None:
        self._max_files, self._room = max_files, max_bytes
        self._files: dict[str, _File] = {}
        self._path = ""

    def take(self, frame: Frame) -> None:
        """A name, or bytes of the file that was named last."""
        if frame.kind == Kind.FILE:
            self._check_last()
            told = json_object(frame.payload)
            self._path = self._judged(told.get("path"))
            self._files[self._path] = _File(told.get("sha256"))
        elif frame.kind == Kind.DATA and self._path:
            self._room -= len(frame.payload)
            self._files[self._path].content += frame.payload
        else:
            raise BrokenProtocol("the guest was asked for files and sent something else")
        if len(self._files) > self._max_files or self._room < 0:
            raise BrokenProtocol("the guest sent more files than it was asked for")

    def files(self) -> dict[str, bytes]:
        """Path -> content, when all have come. Raises BrokenProtocol."""
        self._check_last()
        return {path: bytes(file.content) for path, file in self._files.items()}

    def _judged(self, path: object) -> str:
        if not isinstance(path, str) or path in self._files or not archive.is_safe(path):
            raise BrokenProtocol("the guest named a file that may not be")
        return path

    def _check_last(self) -> None:
        if self._path:
            file = self._files[self._path]
            if hashlib.sha256(file.content).hexdigest() != file.sha256:
                raise BrokenProtocol(f"{self._path} did not arrive as the guest sent it")
