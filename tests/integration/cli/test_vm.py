"""`signalbox vm list|kill|logs` on real VMs, beside a domain that is none of ours."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.domain.ports import Ending
from engine.runtime.domain_xml import domain_name
from engine.runtime.hypervisor import LibvirtHypervisor
from tests.integration.cli.conftest import Signalbox
from tests.integration.cli.test_commands import clear
from tests.integration.runtime.harness import Background, domains, foreign_domain, task
from tests.plugins_vm import URI

pytestmark = [pytest.mark.vm, pytest.mark.timeout(400)]

OWNER = f"cli-{os.getpid()}"


@pytest.fixture
def stranger() -> Iterator[str]:
    """A domain that somebody else made, with other means."""
    with foreign_domain() as name:
        yield name


@pytest.fixture
def ours(signalbox: Signalbox, vm_images: Path) -> Iterator[LibvirtHypervisor]:
    """A worker's VMs of this installation."""
    home = signalbox.folder / "home"
    home.mkdir(mode=0o700)
    (home / "installation-id").write_text(OWNER)
    signalbox.set["LIBVIRT_URI"] = URI
    assert signalbox("migrate").code == 0
    made = LibvirtHypervisor(URI, vm_images, OWNER, "tcg", "worker-1")
    yield made
    made.close()
    assert made.sweep() == ()


def test_a_vm_is_listed_killed_and_its_log_read_and_a_foreign_domain_is_left_alone(
    signalbox: Signalbox, ours: LibvirtHypervisor, stranger: str
) -> None:
    running = Background(ours, task("echo ready; sleep 300", run_id="run-9"))
    running.wait_for("ready")
    begun = running.task.id

    listed = signalbox("vm", "list").out
    assert re.search(rf"{begun}\s+run-9\s+at work\s+running\s+\d+(s|m\d\ds)\s+384 MB\s+worker-1\n", listed)
    assert re.search(r"VMs of this installation: 1 \(384 MB\); domains of others, left alone: \d+\n$", listed)
    assert stranger not in listed
    told = json.loads(signalbox("vm", "list", "--json").out)
    assert [(vm["task"], vm["run"], vm["owner"], vm["domain"]) for vm in told["vms"]] == [
        (begun, "run-9", OWNER, domain_name(begun))
    ]
    assert told["other_domains"] >= 1

    log = signalbox("vm", "logs", begun[:10], "--lines", "60")
    assert "-sandbox on" in log.out
    assert log.err.endswith(f"{domain_name(begun)}.log:\n")

    for word in (stranger, "", "no-such-task\x1b[2J"):
        refused = signalbox("vm", "kill", "--yes", word)
        assert refused.code == 1
        assert "signalbox vm list" in clear(refused.err)
        assert "\x1b" not in refused.err
    assert {stranger, domain_name(begun)} <= domains()

    refused = signalbox("vm", "kill", begun[:10])  # of a run that this database does not know
    assert (refused.code, refused.out) == (1, "")
    assert "was left alone: The database knows no such run" in refused.err
    assert domain_name(begun) in domains()

    killed = signalbox("vm", "kill", "--yes", begun[:10])
    assert killed.code == 0, killed.err
    assert killed.out.startswith(f"{begun}: destroyed; libvirt knows it no more\nThe database knows no such run")
    assert running.end().ending is Ending.VM_LOST
    assert domain_name(begun) not in domains()
    assert stranger in domains()

    gone = signalbox("vm", "logs", begun, "--lines", "3")
    assert gone.code == 0
    assert len(gone.out.splitlines()) == 3
    assert clear(signalbox("vm", "logs", "../../libvirtd").err).count("signalbox-TASK.log") == 1


def test_without_a_database_a_vm_is_killed_only_by_whoever_means_it(
    signalbox: Signalbox, ours: LibvirtHypervisor
) -> None:
    """Nobody knows then what it cuts off."""
    running = Background(ours, task("echo ready; sleep 300", outlives_worker=True))
    running.wait_for("ready")
    signalbox.set["DATABASE_URL"] = "postgresql+psycopg://nobody@127.0.0.1:9/nowhere"

    left = signalbox("vm", "kill", running.task.id)
    assert left.code == 1
    assert "was left alone" in clear(left.err)
    assert domain_name(running.task.id) in domains()

    assert signalbox("vm", "kill", "--yes", running.task.id).code == 0
    assert domain_name(running.task.id) not in domains()
    assert running.end().ending is Ending.VM_LOST


def test_a_libvirt_that_is_away_is_said(signalbox: Signalbox) -> None:
    signalbox.set["LIBVIRT_URI"] = "qemu+unix:///system?socket=/nowhere"
    for verb in (("list",), ("kill", "t-1"), ("logs", "t-1")):
        said = signalbox("vm", *verb)
        assert said.code == 1
        assert "does not answer" in clear(said.err)
        assert "start libvirtd" in said.err
