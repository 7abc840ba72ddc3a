"""A secret that was handed to a VM is found nowhere on the host while the VM lives, nor afterwards."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from engine.domain.ports import SecretValue
from engine.runtime.domain_xml import domain_name
from engine.runtime.hypervisor import LibvirtHypervisor
from tests.integration.runtime.harness import Background, task, virsh

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

FOLDERS = ("/var/log/libvirt", "/var/lib/libvirt", "/run/libvirt", "/etc/libvirt", "/var/cache/libvirt")


def _qemu(task_id: str) -> Path:
    """The process of this VM."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"guest={domain_name(task_id)}".encode() in (process / "cmdline").read_bytes():
                return process
        except OSError:
            continue
    raise AssertionError("no such QEMU")


def _files_with(needle: bytes) -> list[str]:
    paths = (Path(parent, name) for folder in FOLDERS for parent, _, names in os.walk(folder) for name in names)
    return [str(path) for path in paths if path.is_file() and needle in path.read_bytes()]


def test_a_secret_is_in_no_xml_no_argv_no_environ_and_no_file_of_libvirt(hypervisor: LibvirtHypervisor) -> None:
    """The same search finds the VM's name in all of these places, so it would find the secret."""
    secret = "hunter2-" + secrets.token_hex(12)
    running = Background(
        hypervisor,
        task(
            "read line < /run/secrets/token; echo ${#line} ready; sleep 200",
            secrets=(SecretValue(name="token", value=secret + "\n"),),
        ),
    )
    running.wait_for(f"{len(secret)} ready")
    name = domain_name(running.task.id)
    xml = virsh("dumpxml", "--security-info", name)
    argv, environ = ((_qemu(running.task.id) / part).read_bytes() for part in ("cmdline", "environ"))
    assert name in xml
    assert name.encode() in argv
    assert _files_with(name.encode())
    assert secret not in xml
    assert secret.encode() not in argv + environ
    assert not _files_with(secret.encode())
    hypervisor.destroy(running.task.id)
    assert not _files_with(secret.encode())
