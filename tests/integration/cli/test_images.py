"""`signalbox image ...` as a person types it: what is listed, what may go, what a run under way still needs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from engine.cli import cli
from engine.coordination import intake
from engine.domain.alert import Alert, AlertStatus, Severity
from engine.runbooks.shelf import Shelf
from engine.runtime import image, inspection, own_root
from engine.store import migrate
from engine.store.session import Database
from tests.unit.runbooks.good import FILES, TEXT
from tests.unit.runtime import roots

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command on an installation with images `step`, `tools` and `old`, and a runbook that names `tools`."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(image, "SCRATCH", tmp_path / "scratch")
    (tmp_path / "vmlinuz").write_bytes(roots.vmlinuz())
    (tmp_path / "initrd").write_bytes(roots.initrd())
    kernel = own_root.Kernel(tmp_path / "vmlinuz", tmp_path / "initrd")
    roots.root(tmp_path / "source")
    for name in ("tools", "old", "step-to-be"):
        own_root.bring(
            name, tmp_path / "source", tmp_path / "images", examine=inspection.inspect, progress=print, kernel=kernel
        )
    (tmp_path / "images/step-to-be").rename(tmp_path / "images/step")
    (tmp_path / "runbooks/good").mkdir(parents=True)
    for name, data in FILES.items():
        (tmp_path / "runbooks/good" / name).write_bytes(data)
    names_image(tmp_path, "tools")
    for name, value in {"HOME": "home", "RUNBOOKS": "runbooks", "IMAGES": "images"}.items():
        monkeypatch.setenv(f"SIGNALBOX_{name}", str(tmp_path / value))
    return lambda *argv: CliRunner().invoke(cli, ["image", *argv])


def names_image(tmp_path: Path, name: str) -> None:
    """The runbook's first script boots this image."""
    text = TEXT.replace("kind: script\n", f"kind: script\n    image: {name}\n", 1)
    assert name in text
    (tmp_path / "runbooks/good.yaml").write_text(text)


def test_the_list_says_who_uses_what(run: Run) -> None:
    said = run("list")

    assert said.exit_code == 0
    lines = {line.split()[0]: line for line in said.output.splitlines()}
    assert "1 packages  imported  used by good" in lines["tools"]
    assert lines["old"].endswith("used by no runbook")


def test_gc_only_says_what_may_go_until_it_is_told_yes(run: Run, tmp_path: Path) -> None:
    said = run("gc")
    assert said.exit_code == 0
    assert f"would remove {tmp_path}/images/old: no runbook" in said.output
    assert "with --yes it is" in said.output
    assert (tmp_path / "images/old").exists()

    said = run("gc", "--yes")
    assert f"removing {tmp_path}/images/old" in said.output
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == [".lock", "step", "tools"]
    assert run("gc").output == "nothing may go\n"


def test_gc_keeps_what_a_run_under_way_started_with(run: Run, tmp_path: Path) -> None:
    """The runbook on the shelf names another image since."""
    (tmp_path / "home").mkdir(mode=0o700)
    database = Database(f"sqlite:///{tmp_path}/home/signalbox.db")
    migrate.upgrade(database)
    alert = Alert(
        source="alertmanager", fingerprint="f", name="Broken", status=AlertStatus.FIRING, severity=Severity.CRITICAL,
        title="", labels={"unit": "queue"}, annotations={}, starts_at=NOW, ends_at=None, group_key="g",
    )  # fmt: skip
    names_image(tmp_path, "old")
    with database.transaction() as session:
        intake.take(session, alert, Shelf(tmp_path / "runbooks"), NOW)
    names_image(tmp_path, "tools")
    database.close()

    assert run("gc", "--yes").output == "nothing may go\n"
    assert (tmp_path / "images/old").exists()


def test_gc_takes_no_image_while_a_runbook_does_not_read(run: Run, tmp_path: Path) -> None:
    """It may name any of them. And without any runbook nobody knows."""
    (tmp_path / "runbooks/torn.yaml").write_text("schema: [\n")
    assert run("gc", "--yes").output == "nothing may go\n"
    assert "torn (does not read)" in run("list").output
    for path in (tmp_path / "runbooks").glob("*.yaml"):
        path.unlink()
    said = run("gc", "--yes")
    assert said.exit_code == 1
    assert "set SIGNALBOX_RUNBOOKS" in said.output
    assert (tmp_path / "images/old").exists()


def test_gc_of_a_database_of_another_release_does_nothing(run: Run, tmp_path: Path) -> None:
    """Its runs cannot be read."""
    (tmp_path / "home").mkdir(mode=0o700)
    database = Database(f"sqlite:///{tmp_path}/home/signalbox.db")
    migrate.upgrade(database, "0001")
    database.close()
    said = run("gc", "--yes")
    assert said.exit_code == 1
    assert "signalbox migrate" in said.output
    assert (tmp_path / "images/old").exists()


def test_verify_shows_every_finding_with_its_remedy(run: Run, tmp_path: Path) -> None:
    said = run("verify", "tools", "--no-boot")
    assert said.exit_code == 0
    assert [line.split()[:2] for line in said.output.splitlines()] == [
        ["ok", "manifest:"], ["ok", "root:"], ["ok", "kernel:"], ["ok", "agent:"],
    ]  # fmt: skip

    with (tmp_path / "images/tools/rootfs.erofs").open("ab") as file:
        file.write(b"!")
    said = run("verify", "tools", str(tmp_path / "images"))
    assert said.exit_code == 1
    assert "BAD manifest: not what the manifest says: rootfs.erofs\n      -> build or import tools anew" in said.output
    assert "boot" not in said.output, "what is not what it should be is not booted"


def test_verify_without_libvirt_is_no_yes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not booted was not shown to boot."""
    monkeypatch.setenv("SIGNALBOX_LIBVIRT_URI", "qemu+unix:///system?socket=/nowhere")
    said = run("verify", "tools")
    assert said.exit_code == 1
    assert "BAD boot: it was not booted: libvirt at" in said.output


def test_names_that_mean_nothing_are_refused_with_the_known_ones(run: Run) -> None:
    assert "there is old, step, tools" in run("verify", "../step").output
    assert "known: step, step-ansible" in run("build", "target").output
    assert "known: ansible" in run("build", "--with", "terraform").output
    assert "it will be step-ansible" in run("build", "step", "--with", "ansible").output


def test_an_import_is_refused_with_every_reason(run: Run, tmp_path: Path) -> None:
    (tmp_path / "source/usr/sbin/ip").unlink()
    (tmp_path / "source/proc").rmdir()
    said = run("import", "mine", str(tmp_path / "source"), "--no-boot")
    assert said.exit_code == 1
    assert "/sbin/ip is missing" in said.output
    assert "no folder /proc" in said.output
    assert not (tmp_path / "images/mine").exists()
    assert "belong together" in run("import", "mine", str(tmp_path), "--kernel", str(tmp_path / "vmlinuz")).output
