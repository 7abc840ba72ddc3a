"""`ssh target` from a step's VM and from a probe's, into a real sshd: one of the demo's target VMs."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from demo.world import image as target_image
from demo.world import target as world
from demo.world.faults import Fault
from demo.world.target import Target as World
from engine.agents.policy import rule_on
from engine.agents.toolbox import Toolbox
from engine.domain import archive
from engine.domain.agent import AgentRule, Budget, CommandRule, Guest, ToolCall, Tools, Where
from engine.domain.agent import Tool as Called
from engine.domain.directory import Address, Site
from engine.domain.ports import Ending, Reach, SecretValue, TaskResult
from engine.domain.runbook import ArtefactRule, Grant, Login, Target, Tool
from engine.runtime.hypervisor import LibvirtHypervisor
from engine.runtime.runners.agent import AgentRunner
from engine.runtime.runners.probe import SshProbeRunner
from engine.runtime.runners.script import ScriptRunner
from tests.integration.runtime.harness import eventually
from tests.plugins_vm import Plain
from tests.unit.runtime.orders import STEP, order

pytestmark = [pytest.mark.vm, pytest.mark.timeout(400)]

SCRIPT = b"""#!/bin/sh
set -eu
ssh target -- 'id -un; cat' < /step/artefact/question > /step/out/answer
cat /step/out/answer; ls -ld /step/.ssh /run/secrets/key >&2
"""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def staging(vm_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A target that is up."""
    image = target_image.build(vm_images, progress=print)
    ports = (_free_port(), _free_port())
    made = world.prepare(
        world.STAGING, tmp_path_factory.mktemp("world") / "staging", image, world.checkout(Fault.NONE), ports
    )
    with subprocess.Popen(world.argv(made, image, "tcg")) as process:
        try:
            eventually(made.ready, 200, "the target answers")
            yield made
        finally:
            process.kill()


def _reach(staging: World) -> Reach:
    return Reach(host=staging.host, port=22, address="127.0.0.1", address_port=staging.ssh_port)


def _target(staging: World) -> Target:
    return Target(
        name="staging",
        host=staging.host,
        port=22,
        protected=False,
        verifier=Login(user="verifier", key="key"),
        verifier_grant=Grant(),
    )


def _site(staging: World, host_key: str) -> Site:
    ports = {22: Address(host="127.0.0.1", port=staging.ssh_port)}
    return Site(name=staging.host, ports=ports, ssh_host_key=host_key)


def _probe(
    hypervisor: LibvirtHypervisor, staging: World, name: str, *, host_key: str | None = None, person: str = "verifier"
) -> TaskResult:
    task = SshProbeRunner().task(
        task_id=name,
        run_id="r1",
        argv=("sh", "-c", 'echo "$1"; exit 7', "-", "one  word; $HOME 'quoted'"),
        timeout_s=90,
        target=_target(staging),
        site=_site(staging, host_key or staging.host_key.public),
        reaches=(_reach(staging),),
        secrets=(SecretValue(name="key", value=staging.people[person].private),),
    )
    return hypervisor.run(task, Plain(), print)


def test_a_script_enters_its_target_and_brings_back_an_artefact(hypervisor: LibvirtHypervisor, staging: World) -> None:
    """ssh takes the modes and owners that the guest agent gave its files; the bytes arrive on both sides."""
    step = replace(
        STEP, login=Login(user="operator", key="key"), produces=ArtefactRule(name="answer"), timeout_s=120, id="ask"
    )
    made = order(
        step,
        attempt_id="ssh-step",
        target=_target(staging),
        site=_site(staging, staging.host_key.public),
        reaches=(_reach(staging),),
        artefact=archive.pack({"question": b"what?\n"}),
    )
    made = replace(made, snapshot=replace(made.snapshot, files={"fix.sh": SCRIPT}))
    runner = ScriptRunner()
    work = runner.task(made, (SecretValue(name="key", value=staging.people["operator"].private.rstrip("\n")),))
    result = hypervisor.run(work, Plain(), print)
    conclusion = runner.conclude(made, result)
    assert (conclusion.ok, conclusion.reason) == (True, "")
    assert archive.unpack(conclusion.artefact or b"") == {"answer": b"operator\nwhat?\n"}
    assert [(row.host, row.port, row.allowed) for row in result.connections] == [(staging.host, 22, True)]


def test_a_probe_hears_the_commands_own_words_and_exit_code(hypervisor: LibvirtHypervisor, staging: World) -> None:
    """Word for word through the far shell."""
    result = _probe(hypervisor, staging, "ssh-probe")
    assert (result.ending, result.code, result.stdout) == (Ending.EXITED, 7, "one  word; $HOME 'quoted'\n")


def test_another_host_key_or_another_login_is_the_exit_code_of_ssh_itself(
    hypervisor: LibvirtHypervisor, staging: World
) -> None:
    """255: could not be run, and the target's sshd let nobody in by it."""
    stranger = staging.people["reader"].public
    wrong_host = _probe(hypervisor, staging, "ssh-wrong-host", host_key=stranger)
    assert (wrong_host.ending, wrong_host.code) == (Ending.EXITED, 255)
    assert "host key verification failed" in wrong_host.stderr.lower()
    before = staging.accepted()
    wrong_key = _probe(hypervisor, staging, "ssh-wrong-key", person="reader")
    assert (wrong_key.ending, wrong_key.code) == (Ending.EXITED, 255)
    assert staging.accepted() == before


CODE = b"""
import ctypes, os, subprocess
def tried(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    print(argv, done.returncode, done.stdout, done.stderr)
def written(path):
    try:
        open(path, "w").write("ProxyCommand cat /run/secrets/key")
    except OSError as error:
        print(error)
print("me:", os.getuid(), open("/step/runbook/fix.sh").read())
tried("cat", "/run/secrets/key")
tried("cat", "/proc/1/root/run/secrets/key")
tried("nsenter", "-t", "1", "-m", "cat", "/run/secrets/key")
tried("chmod", "-R", "777", "/run/secrets", "/step/.ssh")
tried("mv", "/step/.ssh", "/step/gone")
tried("rm", "-rf", "/step/.ssh")
written("/step/.ssh/config")
tried("ssh", "target", "--", "id", "-un")
libc = ctypes.CDLL(None, use_errno=True)
print(libc.unshare(0x10020000), [libc.umount2(b"/run/secrets", flag) for flag in (0, 2)], ctypes.get_errno())
print(libc.mount(b"/run", b"/mnt", None, 4096, None), libc.mount(b"/run/secrets", b"/mnt", None, 8192, None))
tried("cat", "/run/secrets/key", "/mnt/secrets/key")
"""


def test_an_agent_enters_its_target_by_its_tools_and_its_own_code_has_no_key(
    hypervisor: LibvirtHypervisor, staging: World
) -> None:
    """Else the code that a model writes could run anything there that the login may."""
    tools = Tools(
        run=(
            CommandRule(on=Where.TARGET, argv=("printf", "%s", "*")),
            CommandRule(on=Where.TARGET, argv=("id", "-un")),
            CommandRule(argv=("python3", "/step/out/**")),
            CommandRule(argv=("cat", "/run/secrets/key")),
        ),
        writes=("/step/out/**",),
    )
    step = replace(
        STEP,
        login=Login(user="operator", key="key"),
        timeout_s=240,
        tool=Tool.AGENT,
        agent=AgentRule(model="m", budget=Budget(requests=1, tokens=1, calls=1), tools=tools),
    )
    made = order(
        step,
        attempt_id="ssh-agent",
        target=_target(staging),
        site=_site(staging, staging.host_key.public),
        reaches=(_reach(staging),),
    )
    key = staging.people["operator"].private
    answers: list[str] = []

    def work(guest: Guest) -> None:
        toolbox = Toolbox(tools, guest, Plain())

        def call(tool: Called, **args: Any) -> None:
            one = ToolCall(id=str(len(answers)), tool=tool, args=args)
            answers.append(toolbox.make(one, rule_on(one, tools)))

        call(Called.RUN, argv=["printf", "%s", "it's $(id); x"], on="target")
        call(Called.WRITE, path="/step/out/x.py", content=CODE.decode())
        call(Called.RUN, argv=["python3", "/step/out/x.py"], on="vm")
        call(Called.RUN, argv=["cat", "/run/secrets/key"], on="vm")
        call(Called.RUN, argv=["id", "-un"], on="target")

    result = hypervisor.attend(AgentRunner().task(made, (SecretValue(name="key", value=key),)), Plain(), print, work)

    assert (result.ending, result.reason) == (Ending.EXITED, "")
    assert answers[0] == "exit code 0\nstdout:\nit's $(id); x"
    assert answers[2].startswith("exit code 0\nstdout:\nme: 1000 #!/bin/sh"), answers[2]
    assert "operator\n" not in answers[2]
    assert "0 [-1, -1] 22\n-1 -1\n" in answers[2]
    assert answers[3].startswith("exit code 1\nstderr:\n")
    assert answers[4] == "exit code 0\nstdout:\noperator\n"
    assert not any("PRIVATE KEY" in answer or line in answer for answer in answers for line in key.splitlines()[1:-1])
