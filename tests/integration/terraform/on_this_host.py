"""A hypervisor without VMs, for what a VM adds nothing to: each task has a folder of its own in the place of /step."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.domain.digest import of_bytes
from engine.domain.ports import Ending, Redactor, TaskResult, VmTask
from tests.services import terraform

TIMEOUT_S = 110


@dataclass
class OnThisHost:
    """Implements `ports.Hypervisor`. `env`: what the tasks find besides; `ran`: the tasks, in order."""

    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)
    ran: list[VmTask] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Terraform finds the provider here."""
        self.plugins = self.folder / "plugins"
        terraform.lay_out(self.plugins)
        source = f'provider_installation {{\n  filesystem_mirror {{ path = "{self.plugins}" }}\n}}\n'
        (self.folder / "terraformrc").write_text(source)

    def run(self, task: VmTask, redactor: Redactor, on_output: Callable[[str], None]) -> TaskResult:
        """See `ports.Hypervisor`. Programs of ours (`*.py`) are told where their paths lead here."""
        self.ran.append(task)
        home = self.folder / f"step-{len(self.ran)}"
        for file in task.files:
            path = Path(file.path.replace("/step", str(home), 1))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_here(file.content, home) if path.suffix == ".py" else file.content)
        for secret in task.secrets:
            (home / "secrets").mkdir(exist_ok=True)
            (home / "secrets" / secret.name).write_text(secret.value)
        argv = [word.replace("/step", str(home), 1) for word in task.argv]
        done = subprocess.run(
            [sys.executable, *(argv[1:] if argv[0] == "python3" else argv)],
            env={**self._environment(home), **self.env},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        out = home / "out"
        return TaskResult(
            ending=Ending.EXITED,
            code=done.returncode,
            stdout=redactor(done.stdout),
            stderr=redactor(done.stderr),
            truncated=False,
            reason="",
            seconds=1.0,
            files={path.name: path.read_bytes() for path in out.iterdir()} if task.collect and out.is_dir() else {},
        )

    def _environment(self, home: Path) -> dict[str, str]:
        return {
            "PATH": f"{terraform.program().parent}:{os.defpath}",
            "HOME": str(home),
            "PYTHONPATH": str(terraform.packages()),
            "TF_CLI_CONFIG_FILE": str(self.folder / "terraformrc"),
        }

    def destroy(self, task_id: str) -> bool:
        return False

    def sweep(self, living: Callable[[], Collection[str]] = tuple) -> tuple[str, ...]:
        return ()

    def destroy_all_of(self, run_id: str) -> tuple[str, ...]:
        return ()

    def image_digest(self, image: str) -> str:
        return of_bytes(image.encode())

    def reachable(self) -> None:
        """Always."""

    def shortage(self) -> str:
        return ""


def _here(program: bytes, home: Path) -> bytes:
    program = program.replace(b'"/run/secrets"', f'"{home}/secrets"'.encode())
    return program.replace(b'"/step', f'"{home}'.encode())
