"""`signalbox doctor`: each thing that is not well is found, with what to do about it, and makes it exit 1."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.workspace.background import running
from demo.workspace.server import Workspace
from tests.integration.cli.conftest import RUNBOOKS, Signalbox

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

TOKEN, SIGNING_SECRET = "xoxb-right-token", "the-signing-secret"
HELD = ("qemu-sandbox", "qemu-user", "vm-card", "vm-usb", "vm-graphics", "vm-folder", "vm-balloon", "vm-disk")
MACHINE = ("acceleration", "qemu-label", "image-files")
""" What depends on the machine that the tests run on: KVM, AppArmor, whose the images are. """
LINE = re.compile(r"^(ok|FAIL)\s+(\S+)\s+(.*)$")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor, and the remedy under it."""

    well: bool
    part: str
    text: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Report:
    """What the doctor said."""

    code: int
    findings: tuple[Finding, ...]

    def of(self, part: str, *, well: bool) -> list[Finding]:
        """Findings about one part."""
        return [finding for finding in self.findings if finding.part == part and finding.well is well]

    def only(self, part: str, text: str) -> Finding:
        """The one finding about `part` that is not well and says `text`."""
        [found] = [finding for finding in self.of(part, well=False) if text in finding.text]
        return found


def examine(signalbox: Signalbox) -> Report:
    """Call the doctor; it never crashes."""
    said = signalbox("doctor")
    assert "Traceback" not in said.out + said.err
    assert said.err == ""
    findings: list[Finding] = []
    for line in said.out.splitlines():
        if found := LINE.match(line):
            findings.append(Finding(found[1] == "ok", found[2], found[3], ""))
        elif line.strip().startswith("->"):
            last = findings.pop()
            findings.append(Finding(last.well, last.part, last.text, line.strip().removeprefix("->").strip()))
        else:
            assert line.startswith(" " * 20), f"a line of another form: {line!r}"
            last = findings.pop()
            findings.append(Finding(last.well, last.part, f"{last.text}\n{line.strip()}", ""))
    return Report(said.code, tuple(findings))


@pytest.fixture(scope="module")
def workspace() -> Iterator[Workspace]:
    """A workspace that knows one token."""
    with running(Workspace(signing_secret=SIGNING_SECRET, bot_token=TOKEN)) as made:
        yield made


@pytest.fixture
def whole(signalbox: Signalbox, workspace: Workspace, vm_images: Path) -> Signalbox:
    """An installation with everything configured but Prometheus; a test breaks one thing of it."""
    names = ("staging.checkout.demo", "production.checkout.demo")
    sites = [f'{name}: {{ports: {{22: "192.0.2.{number}:22"}}}}\n' for number, name in enumerate(names, start=1)]
    (signalbox.folder / "sites.yaml").write_text("".join(sites))
    shelf = signalbox.folder / "disk-full-only"  # which boots no image but `step`
    shutil.copytree(RUNBOOKS / "disk-full", shelf / "disk-full")
    shutil.copy(RUNBOOKS / "disk-full.yaml", shelf)
    signalbox.set |= {
        "RUNBOOKS": str(shelf),
        "IMAGES": str(vm_images),
        "APPROVERS": "U1",
        "ALERTMANAGER_TOKEN": "an-alert-token",
        "SLACK_BOT_TOKEN": TOKEN,
        "SLACK_SIGNING_SECRET": SIGNING_SECRET,
        "SLACK_API_URL": workspace.api_url,
    }
    assert signalbox("migrate").code == 0
    assert signalbox("runbook", "activate", "--all").code == 0
    return signalbox


def test_each_part_that_is_well_is_said_and_a_vm_really_boots(whole: Signalbox) -> None:
    """All but Prometheus and the policies, which nobody applied yet, is well; the trial boot is a real one."""
    report = examine(whole)

    for part in ("configuration", "database", "runbooks", "image", "libvirt", "secrets", "slack", *HELD):
        assert report.of(part, well=True), part
    [libvirt] = report.of("libvirt", well=True)
    assert re.search(r"QEMU \d+.*; a trial VM worked in \d+\.\d s", libvirt.text)
    [processors] = report.of("processors", well=True)
    assert re.fullmatch(r"VMs are held to their cpu_percent|VMs cannot be held .* it has no effect", processors.text)
    [slack] = report.of("slack", well=True)
    assert "connected to" in slack.text
    assert {finding.part for finding in report.findings if not finding.well} <= {"prometheus", "secrets", *MACHINE}
    assert "SIGNALBOX_PROMETHEUS_URL" in report.only("prometheus", "not configured").remedy
    assert report.code == 1


def test_emulation_is_well_only_for_whoever_asked_for_it_and_kvm_is_never_replaced(whole: Signalbox) -> None:
    """On a machine without KVM, or where it does not work, each setting says something else."""
    whole.set["ACCEL"] = "tcg"
    [asked] = examine(whole).of("acceleration", well=True)
    assert "SIGNALBOX_ACCEL=tcg says so" in asked.text

    whole.set["ACCEL"] = "kvm"
    insisted = examine(whole)
    [kvm] = [finding for finding in insisted.findings if finding.part == "acceleration"]
    assert kvm.text.startswith("KVM" if kvm.well else "SIGNALBOX_ACCEL=kvm, and no VM boots under KVM")

    whole.set["ACCEL"] = "auto"
    [fell_back] = [finding for finding in examine(whole).findings if finding.part == "acceleration"]
    assert fell_back.well is kvm.well
    assert ("SIGNALBOX_ACCEL=kvm, which never falls back" in fell_back.remedy) is not kvm.well


def test_no_libvirt_a_wrong_slack_token_and_no_approver_are_each_found_with_a_remedy(whole: Signalbox) -> None:
    whole.set |= {
        "LIBVIRT_URI": "qemu+unix:///system?socket=/nowhere",
        "SLACK_BOT_TOKEN": "xoxb-wrong-token",
        "APPROVERS": "",
    }

    report = examine(whole)

    assert report.code == 1
    assert "libvirt" in report.only("libvirt", "does not answer").remedy
    assert "renew the token" in report.only("slack", "invalid_auth").remedy
    assert "SIGNALBOX_APPROVERS" in report.only("configuration", "nobody may approve").remedy
    assert report.of("database", well=True)  # one sick part hides no other


def test_a_missing_image_an_old_database_and_a_broken_runbook_are_each_found_with_a_remedy(whole: Signalbox) -> None:
    shelf = whole.folder / "runbooks"
    shelf.mkdir()
    (shelf / "broken.yaml").write_text("schema: runbook/v1\n")
    whole.set |= {
        "IMAGES": str(whole.folder / "no-images"),
        "DATABASE_URL": f"sqlite:///{whole.folder / 'other.db'}",
        "RUNBOOKS": str(shelf),
        "SLACK_API_URL": "http://127.0.0.1:9/api/",
        "PROMETHEUS_URL": "http://127.0.0.1:9",
    }
    del whole.set["ALERTMANAGER_TOKEN"]

    report = examine(whole)

    assert report.code == 1
    [image] = [finding for finding in report.findings if "no image 'step'" in finding.text]
    assert "signalbox image build step" in image.remedy
    assert report.only("database", "revision none").remedy == "signalbox migrate"
    assert "signalbox runbook lint broken" in report.only("runbooks", "broken").remedy
    assert "SIGNALBOX_SLACK_API_URL" in report.only("slack", "does not answer").remedy
    assert report.only("prometheus", "does not answer").remedy
    assert "SIGNALBOX_ALERTMANAGER_TOKEN_FILE" in report.only("configuration", "no alert source").remedy


def test_a_database_that_cannot_be_reached_or_spoken_to_is_found(whole: Signalbox) -> None:
    """Down; and a URL that is none. Its password is never shown."""
    whole.set |= {"IMAGES": str(whole.folder / "no-images"), "RUNBOOKS": str(RUNBOOKS)}
    for url, says in (
        ("postgresql+psycopg://signalbox:hunter2hunter2@127.0.0.1:9/signalbox", "did not answer"),
        ("nonsense-with-hunter2hunter2", "SIGNALBOX_DATABASE_URL cannot be used"),
    ):
        whole.set["DATABASE_URL"] = url
        report = examine(whole)
        assert "SIGNALBOX_DATABASE_URL" in report.only("database", says).text + report.only("database", says).remedy
        assert "hunter2" not in str(report)
        assert report.of("slack", well=True)


def test_a_sites_file_that_is_broken_or_lacks_a_host_is_found(whole: Signalbox) -> None:
    whole.set["IMAGES"] = str(whole.folder / "no-images")
    sites = whole.folder / "sites.yaml"
    sites.write_text('staging.checkout.demo: {ports: {22: "192.0.2.1:22"}}\n')
    assert "SIGNALBOX_SITES" in examine(whole).only("runbooks", "unknown hosts: production.checkout.demo").remedy

    sites.write_text("- staging\n")
    report = examine(whole)
    assert report.only("configuration", "names of hosts")
    assert report.of("slack", well=True)


def test_without_any_configuration_every_missing_piece_is_named(signalbox: Signalbox) -> None:
    """What somebody sees who calls it first thing."""
    report = examine(signalbox)

    assert report.code == 1
    sick = {finding.part for finding in report.findings if not finding.well}
    assert {"configuration", "database", "libvirt", "prometheus", "slack"} <= sick
    assert all(finding.remedy for finding in report.findings if not finding.well)
