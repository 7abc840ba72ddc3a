"""A target of the demo's world and the playbooks that a test lets loose on it, by the real runner and in real VMs."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from demo.world.target import Target as World
from engine.domain import image_names
from engine.domain.directory import Address, Site
from engine.domain.journey import Role
from engine.domain.ports import Reach, SecretValue, TaskResult
from engine.domain.runbook import PLAY_OUTPUT, Access, Grant, Login, OutputRule, Script, Target, Tool
from engine.domain.runners import Conclusion
from engine.runtime.hypervisor import LibvirtHypervisor
from engine.runtime.runners.ansible import AnsibleRunner
from tests.plugins_vm import ROOT, Plain
from tests.unit.runtime.orders import STEP, order

RUNBOOK = ROOT / "runbooks" / "ansible-drift"
CONFIG = "/srv/checkout/checkout.json"
WANTED = (RUNBOOK / "play" / "files" / "checkout.json").read_text()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def runbook_files() -> dict[str, bytes]:
    """The folder of the runbook `ansible-drift`."""
    return {path.relative_to(RUNBOOK).as_posix(): path.read_bytes() for path in _files(RUNBOOK)}


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@dataclass(frozen=True)
class Played:
    """What an attempt came to."""

    conclusion: Conclusion
    result: TaskResult

    @property
    def said(self) -> dict[str, Any]:
        """Its report."""
        assert isinstance(self.conclusion.output, dict), self.result
        return self.conclusion.output


@dataclass(frozen=True)
class Scene:
    """The target and the hypervisor."""

    world: World
    hypervisor: LibvirtHypervisor

    def play(
        self,
        files: Mapping[str, bytes] | str,
        *,
        user: str = "operator",
        access: Access = Access.WRITE,
        playbook: str = "play/site.yml",
        port: int = 0,
        host_key: str = "",
    ) -> Played:
        """Carry out a playbook as a step would. `files`: of the runbook's folder, or the text of one playbook. `port`:
        where the target is said to be; `host_key`: what is said to be its key."""
        folder = {playbook: files.encode()} if isinstance(files, str) else dict(files)
        step = replace(
            STEP,
            script=Script(file=playbook),
            access=access,
            login=Login(user=user, key="key"),
            image=image_names.ANSIBLE,
            memory_mb=512,
            timeout_s=400,
            tool=Tool.ANSIBLE,
            output=OutputRule(required=PLAY_OUTPUT),
        )
        name, address = self.world.host, Address(host="127.0.0.1", port=port or self.world.ssh_port)
        made = order(
            step,
            Role.FORWARD,
            attempt_id=f"play-{uuid4()}",
            target=Target(
                name="staging",
                host=name,
                port=22,
                protected=False,
                verifier=Login(user="verifier", key="key"),
                verifier_grant=Grant(),
            ),
            site=Site(name=name, ports={22: address}, ssh_host_key=host_key or self.world.host_key.public),
            reaches=(Reach(host=name, port=22, address=address.host, address_port=address.port),),
        )
        made = replace(made, snapshot=replace(made.snapshot, files=folder))
        runner = AnsibleRunner()
        key = SecretValue(name="key", value=self.world.people[user].private)
        result = self.hypervisor.run(runner.task(made, (key,)), Plain(), print)
        return Played(runner.conclude(made, result), result)

    def on_target(self, command: str, user: str = "verifier") -> str:
        """What a command prints there, by the test's own ssh."""
        done = self.world.run(user, command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def drift(self) -> None:
        """Somebody changes the configuration by hand."""
        self.on_target(
            f'cd /srv/checkout && rm -f checkout.json* && echo \'{{"log_level": "debug"}}\' >{CONFIG}', "operator"
        )
