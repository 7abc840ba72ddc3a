"""A folder of this machine as a step's VM: its commands run here, and see /step as a folder of the test's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.domain.agent import CommandResult
from engine.domain.errors import BadInput

STAND_IN = Path(__file__).parents[2] / "doubles" / "codex_by_hand.py"


@dataclass
class HostGuest:
    """Implements `Guest` and `Streams`. `folder`: its /step; `env`: what its commands have besides."""

    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)

    def install(self) -> None:
        """The program `codex`, as the test has it."""
        program = self.folder / "bin" / "codex"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n')
        program.chmod(0o755)

    def run(self, argv: tuple[str, ...], timeout_s: float, output_limit: int) -> CommandResult:
        """See `Guest.run`."""
        return self.stream(argv, timeout_s, output_limit, lambda _: None)

    def stream(
        self, argv: tuple[str, ...], timeout_s: float, output_limit: int, on_output: Callable[[str], None]
    ) -> CommandResult:
        """See `Streams.stream`; in pieces that end anywhere."""
        here = [str(self._at(word)) if word.startswith("/step") else word for word in argv]
        env = {"PATH": f"{self.folder}/bin:{os.environ['PATH']}", **self.env}
        try:
            done = subprocess.run(
                here, cwd=self.folder, env=env, capture_output=True, text=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            return CommandResult(code=None, stdout="", stderr="", reason=f"no end within {timeout_s:.0f} s")
        printed = done.stdout[:output_limit]
        for at in range(0, len(printed), 7):
            on_output(printed[at : at + 7])
        return CommandResult(code=done.returncode, stdout=printed, stderr=done.stderr)

    def read(self, path: str, limit: int) -> bytes:
        """See `Guest.read`."""
        if not self._at(path).is_file():
            raise BadInput(f"{path}: there is no such file")
        content = self._at(path).read_bytes()
        if len(content) > limit:
            raise BadInput(f"{path} is longer than {limit} bytes")
        return content

    def write(self, path: str, content: bytes) -> None:
        """See `Guest.write`."""
        self._at(path).parent.mkdir(parents=True, exist_ok=True)
        self._at(path).write_bytes(content)

    def _at(self, path: str) -> Path:
        return self.folder / path.removeprefix("/step").lstrip("/")
