"""What the VM tests share: tasks, waiting, what libvirt says."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from engine.domain.ports import TaskResult, VmTask
from engine.runtime.hypervisor import LibvirtHypervisor
from tests.plugins_vm import URI, Plain


def task(*argv: str, **more: Any) -> VmTask:
    """A task with an id of its own; `argv` of one word is a shell script."""
    words = argv if len(argv) > 1 else ("sh", "-c", argv[0])
    fields: dict[str, Any] = {"id": f"t-{uuid.uuid4()}", "run_id": "run-1", "image": "step", "timeout_s": 60}
    return VmTask(**(fields | {"argv": words} | more))


class Background:
    """A task in a thread. `wait_for(text)` returns when it has printed that."""

    def __init__(self, hypervisor: LibvirtHypervisor, work: VmTask) -> None:
        self.task = work
        self.result: TaskResult | None = None
        self.error: Exception | None = None
        self._printed = ""
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(hypervisor,), daemon=True)
        self._thread.start()

    def _run(self, hypervisor: LibvirtHypervisor) -> None:
        try:
            self.result = hypervisor.run(self.task, Plain(), self._heard)
        except Exception as error:  # noqa: BLE001 - told to the test's thread
            self.error = error
        with self._changed:
            self._changed.notify_all()

    def _heard(self, text: str) -> None:
        with self._changed:
            self._printed += text
            self._changed.notify_all()

    def wait_for(self, text: str, seconds: float = 200) -> None:
        with self._changed:
            self._changed.wait_for(lambda: text in self._printed or self.result or self.error, seconds)
        assert text in self._printed, f"not printed: {self.result} {self.error}"

    def end(self, seconds: float = 90) -> TaskResult:
        self._thread.join(seconds)
        assert self.result is not None, f"no result in time ({self.error})"
        return self.result


def virsh(*words: str) -> str:
    """What virsh prints; fails when it does not answer."""
    return subprocess.run(["virsh", "-c", URI, *words], capture_output=True, text=True, timeout=60, check=True).stdout


def domains() -> set[str]:
    """The names of all domains, running or not."""
    return set(virsh("list", "--all", "--name").split())


STRANGER = """<domain type='qemu'>
<name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os>
<on_reboot>destroy</on_reboot><devices><controller type='usb' model='none'/><memballoon model='none'/></devices>
</domain>"""


@contextlib.contextmanager
def foreign_domain() -> Iterator[str]:
    """A domain that is none of ours, though it is named as if: it carries no mark. It stands still."""
    name = f"signalbox-foreign-{uuid.uuid4()}"
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
        file.write(STRANGER.format(name=name))
        file.flush()
        virsh("create", file.name, "--paused")
    try:
        yield name
    finally:
        virsh("destroy", name)


def eventually(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait on a condition with a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.1)
