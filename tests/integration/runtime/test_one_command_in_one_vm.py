"""A task in a real VM: what goes in, what comes out, how it can end."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from engine.domain import digest
from engine.domain.errors import BadInput, Refused
from engine.domain.ports import Ending, FileIn, SecretValue, TaskResult, VmTask
from engine.runtime.domain_xml import domain_name
from engine.runtime.hypervisor import LibvirtHypervisor
from tests.integration.runtime.harness import Background, domains, task, virsh
from tests.plugins_vm import URI, Plain

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

SCRIPT = b"""#!/bin/bash
cat; echo "from env: $GREETING"; echo "to stderr" >&2
echo "i am $(id -u) in $PWD, no root: $(sudo -n id 2>/dev/null || echo none)"
stat -c '%n %a %U %F' /step/runbook/run.sh /run/secrets /run/secrets/token
echo "secrets lie on $(stat -f -c %T /run/secrets), cards: $(ls /sys/class/net | xargs)"
mkdir -p /step/out/deep; head -c 300000 /dev/zero > /step/out/deep/zeros; printf 'one' > /step/out/one
ln -s /etc/passwd /step/out/link; mkfifo /step/out/pipe
(setsid sleep 300 &) ; exit 3
"""
BIG = bytes(range(256)) * 2000


@pytest.fixture(scope="module")
def ended(hypervisor: LibvirtHypervisor) -> tuple[VmTask, TaskResult, list[str]]:
    """One VM that does a bit of everything."""
    heard: list[str] = []
    work = task(
        "/step/runbook/run.sh",
        "argument",
        stdin=b"from stdin\n",
        env={"GREETING": "hello"},
        files=(
            FileIn(path="/step/runbook/run.sh", content=SCRIPT, mode=0o755),
            FileIn(path="/step/artefact/big", content=BIG),
            FileIn(path="/step/artefact/empty", content=b""),
        ),
        secrets=(SecretValue(name="token", value="s3cret"),),
        collect="/step/out",
    )
    return work, hypervisor.run(work, Plain(), heard.append), heard


def test_output_input_environment_and_exit_code_cross(ended: tuple[VmTask, TaskResult, list[str]]) -> None:
    """The script's own words, and its exit code."""
    _, result, heard = ended
    assert (result.ending, result.code, result.truncated, result.reason) == (Ending.EXITED, 3, False, "")
    assert result.stdout.startswith("from stdin\nfrom env: hello\n")
    assert result.stderr == "to stderr\n"
    assert sorted("".join(heard)) == sorted(result.stdout + result.stderr)


def test_the_script_is_a_plain_user_with_its_secret_on_tmpfs_and_no_network_card(
    ended: tuple[VmTask, TaskResult, list[str]],
) -> None:
    """uid 1000, 0400 on tmpfs, loopback only."""
    _, result, _ = ended
    assert "i am 1000 in /step, no root: none\n" in result.stdout
    assert "/run/secrets/token 400 step regular file" in result.stdout
    assert "/run/secrets 700 step directory" in result.stdout
    assert "secrets lie on tmpfs, cards: lo\n" in result.stdout


def test_the_guest_tells_the_digest_of_every_file_it_got(ended: tuple[VmTask, TaskResult, list[str]]) -> None:
    """`received` is what was sent; secrets are not in it."""
    work, result, _ = ended
    assert result.received == {file.path: digest.of_bytes(file.content) for file in work.files}


def test_regular_files_come_back_and_nothing_else(ended: tuple[VmTask, TaskResult, list[str]]) -> None:
    """No link is followed, no pipe is read; a straggler of the script does not hold us up."""
    _, result, _ = ended
    assert result.files == {"deep/zeros": b"\0" * 300000, "one": b"one"}


def test_the_vm_is_gone_when_run_returns(ended: tuple[VmTask, TaskResult, list[str]]) -> None:
    """libvirt knows no such domain and no such process runs."""
    work, _, _ = ended
    assert domain_name(work.id) not in domains()
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert f"guest={domain_name(work.id)}" not in processes


def test_a_program_that_is_not_there_was_not_begun(hypervisor: LibvirtHypervisor) -> None:
    """It changed nothing, and says why."""
    result = hypervisor.run(task("/no/such", "program"), Plain(), print)
    assert (result.ending, result.code) == (Ending.NOT_BEGUN, None)
    assert "/no/such" in result.reason


def test_output_over_the_limit_is_cut_and_the_command_still_ends(hypervisor: LibvirtHypervisor) -> None:
    """Three megabytes against a limit of 100 kB; then it dies by a signal, which is told."""
    result = hypervisor.run(
        task("head -c 3000000 /dev/zero | tr '\\0' x; echo done >&2; kill -9 $$", output_limit=100_000), Plain(), print
    )
    assert (result.ending, result.code, result.reason) == (Ending.SIGNALLED, None, "ended by signal 9")
    assert (result.stdout, result.truncated, result.stderr) == ("x" * 100_000, True, "done\n")


def test_a_command_that_ignores_the_first_signal_is_ended_at_its_timeout(hypervisor: LibvirtHypervisor) -> None:
    """TERM, then KILL."""
    work = task("trap '' TERM; echo ready; while :; do sleep 1; done", timeout_s=4)
    result = hypervisor.run(work, Plain(), print)
    assert (result.ending, result.code, result.stdout) == (Ending.TIMED_OUT, None, "ready\n")
    assert domain_name(work.id) not in domains()


def test_a_vm_that_answers_no_more_is_destroyed_at_the_timeout(hypervisor: LibvirtHypervisor) -> None:
    """A paused guest obeys no kill: the domain goes."""
    running = Background(hypervisor, task("echo ready; sleep 300", timeout_s=6))
    running.wait_for("ready")
    virsh("suspend", domain_name(running.task.id))
    result = running.end()
    assert result.ending is Ending.TIMED_OUT
    assert domain_name(running.task.id) not in domains()


def test_a_vm_that_dies_is_told_at_once(hypervisor: LibvirtHypervisor) -> None:
    """Somebody destroys it behind our back."""
    running = Background(hypervisor, task("echo ready; sleep 300"))
    running.wait_for("ready")
    begun = time.monotonic()
    virsh("destroy", domain_name(running.task.id))
    assert running.end().ending is Ending.VM_LOST
    assert time.monotonic() - begun < 15


def test_cancel_ends_a_task_promptly_and_its_id_admits_no_second_vm(
    hypervisor: LibvirtHypervisor, vm_images: Path
) -> None:
    """A second task of this id is refused, here and by another process's hypervisor, and does not harm the first."""
    other = LibvirtHypervisor(URI, vm_images, "somebody-else", "tcg")
    running = Background(hypervisor, task("echo ready; sleep 300"))
    running.wait_for("ready")
    for second in (hypervisor, other):
        with pytest.raises(Refused, match=r"exists already|runs already"):
            second.run(running.task, Plain(), print)
    assert other.destroy(running.task.id) is False
    assert other.sweep() == ()
    assert domain_name(running.task.id) in domains()
    begun = time.monotonic()
    assert hypervisor.destroy(running.task.id) is True
    assert time.monotonic() - begun < 15
    assert running.end(1).ending is Ending.CANCELLED
    assert domain_name(running.task.id) not in domains()
    assert hypervisor.destroy(running.task.id) is False
    other.close()


def test_a_task_that_was_cancelled_before_it_began_never_begins(hypervisor: LibvirtHypervisor) -> None:
    """The cancel may come between the decision to start and the start."""
    work = task("true")
    assert hypervisor.destroy(work.id) is False
    with pytest.raises(Refused, match="cancelled before it began"):
        hypervisor.run(work, Plain(), print)


def test_an_image_that_is_not_there_names_the_command_that_builds_it(hypervisor: LibvirtHypervisor) -> None:
    """Both for the digest and for a run."""
    with pytest.raises(BadInput) as caught:
        hypervisor.image_digest("nosuch")
    assert caught.value.remedy == "run: signalbox image import nosuch ROOTFS.tar"
    with pytest.raises(BadInput):
        hypervisor.run(task("true", image="nosuch"), Plain(), print)


def test_the_trial_boot_of_the_doctor_takes_a_time(hypervisor: LibvirtHypervisor) -> None:
    """Seconds, and a line for people."""
    assert 0 < hypervisor.trial_boot() < 200
    assert "QEMU" in hypervisor.describe()
