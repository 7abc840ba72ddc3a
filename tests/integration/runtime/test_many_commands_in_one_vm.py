"""A real VM that is attended: several commands in it, files in and out, and its end."""

from __future__ import annotations

import threading
import time

import pytest

from engine.domain.agent import Guest
from engine.domain.errors import BadInput, Unavailable
from engine.domain.ports import Ending, FileIn, SecretValue, TaskResult
from engine.domain.runners import Attends
from engine.runtime.domain_xml import domain_name
from engine.runtime.hypervisor import LibvirtHypervisor
from tests.integration.runtime.harness import domains, task
from tests.plugins_vm import Plain

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

LIMIT = 100_000


def sh(guest: Guest, script: str, timeout_s: float = 60) -> tuple[int | None, str, str]:
    """Code, stdout and reason of a shell script."""
    result = guest.run(("sh", "-c", script), timeout_s, LIMIT)
    return result.code, result.stdout, result.reason


def test_commands_share_a_vm_a_slow_one_is_ended_and_files_cross(hypervisor: LibvirtHypervisor) -> None:
    """All in one VM: each boot costs seconds."""
    assert isinstance(hypervisor, Attends)

    def work(guest: Guest) -> None:
        names.append(sh(guest, "cat /proc/sys/kernel/random/boot_id")[1])
        names.append(sh(guest, "cat /proc/sys/kernel/random/boot_id")[1])
        assert sh(guest, "id -u; pwd; cat /step/given /run/secrets/token")[1] == "1000\n/step\ngiven\ns3cret"
        assert sh(guest, "(setsid sleep 300 &); exit 4")[0] == 4
        assert sh(guest, "pgrep -x sleep") == (1, "", "")
        assert sh(guest, "echo before; sleep 60", 1) == (None, "before\n", "no end within 1 s")
        guest.write("/step/out/fix.json", b"first")
        guest.write("/step/out/fix.json", b'{"fixed": true}')
        assert sh(guest, "stat -c '%U %a' /step/out/fix.json; cat /step/out/fix.json")[1] == (
            'step 644\n{"fixed": true}'
        )
        assert guest.read("/step/out/fix.json", LIMIT) == b'{"fixed": true}'

    names: list[str] = []
    asked = task(
        "false",
        "the command of the task is not run",
        files=(FileIn(path="/step/given", content=b"given\n"),),
        secrets=(SecretValue(name="token", value="s3cret"),),
        collect="/step/out",
        timeout_s=250,
    )
    result = hypervisor.attend(asked, Plain(), lambda _: None, work)

    assert (result.ending, result.code, result.reason) == (Ending.EXITED, 0, "")
    assert result.files == {"fix.json": b'{"fixed": true}'}
    assert names[0] == names[1] != ""
    assert domain_name(asked.id) not in domains()


def test_nobody_writes_or_reads_past_the_rights_of_the_steps_user(hypervisor: LibvirtHypervisor) -> None:
    """Not where root may, not through a link, and not through a folder whose links nobody could see."""

    def work(guest: Guest) -> None:
        with pytest.raises(BadInput, match="Permission denied"):
            guest.write("/etc/sudoers", b"x")
        with pytest.raises(BadInput, match="Permission denied"):
            guest.read("/proc/1/environ", LIMIT)
        assert sh(guest, "mkdir -p out/d; ln -s /etc out/d/etc; chmod 000 out/d")[0] == 0
        with pytest.raises(BadInput):
            guest.write("/step/out/d/etc/ours", b"x")
        assert sh(guest, "ls /etc/ours")[0] != 0

    assert hypervisor.attend(task("true"), Plain(), lambda _: None, work).ending is Ending.EXITED


def test_destroying_it_ends_the_command_that_runs_and_proves_the_vm_gone(hypervisor: LibvirtHypervisor) -> None:
    begun, results, lost = threading.Event(), list[TaskResult](), list[str]()

    def work(guest: Guest) -> None:
        assert sh(guest, "echo up")[0] == 0
        begun.set()
        try:
            guest.run(("sleep", "200"), 200, LIMIT)
        except Unavailable as error:
            lost.append(str(error))
            raise

    asked = task("true", timeout_s=250)
    thread = threading.Thread(
        target=lambda: results.append(hypervisor.attend(asked, Plain(), lambda _: None, work)), daemon=True
    )
    thread.start()
    assert begun.wait(200)
    assert domain_name(asked.id) in domains()
    at = time.monotonic()

    assert hypervisor.destroy(asked.id)

    assert domain_name(asked.id) not in domains()
    assert time.monotonic() - at < 60
    thread.join(30)
    assert (results[0].ending, results[0].reason) == (Ending.CANCELLED, "cancelled")
    assert lost == ["the VM is gone: cancelled"]


def test_the_time_of_the_task_ends_it_and_what_the_work_raises_leaves_no_vm(hypervisor: LibvirtHypervisor) -> None:
    slow = task("true", timeout_s=3)
    result = hypervisor.attend(slow, Plain(), lambda _: None, _forever)
    assert (result.ending, result.reason) == (Ending.TIMED_OUT, "no end within 3 s")

    def fails(guest: Guest) -> None:
        guest.run(("true",), 60, LIMIT)
        raise Unavailable("no model")

    broken = task("true")
    with pytest.raises(Unavailable, match="no model"):
        hypervisor.attend(broken, Plain(), lambda _: None, fails)
    assert not {domain_name(slow.id), domain_name(broken.id)} & domains()


def _forever(guest: Guest) -> None:
    while True:
        guest.run(("sleep", "1"), 60, LIMIT)
