"""What the scripts of package-upgrade do when something is not as it should be; here the target is a folder."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from demo.stage import ROOT
from tests.library.package_upgrade import BUILT, CVE, FIXED, PACKAGE, data, pinned

SSH = '#!/bin/sh\n# The target: this machine.\nshift 2\nexec sh -c "$1"\n'
FOLDER = ROOT / "runbooks" / "package-upgrade"
DEB = f"{PACKAGE}_{FIXED}_all.deb"


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """The service's folder as it lies on a target; nobody runs the service."""
    for name, content in data("").items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "catalog"


def run(script: str, catalog: Path) -> subprocess.CompletedProcess[str]:
    """Run it with the advisory's pin. It does not wait for a service that is not there."""
    away = catalog.parent
    (away / "package.sha256").write_text(f"{_advisory()['sha256']}  {DEB}\n")
    text = (FOLDER / script).read_text()
    for old, new in (("/step/artefact", str(away)), ("/srv/catalog", str(catalog)), ("touch drain\n", "exit 0\n")):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (away / "ssh").write_text(SSH)
    (away / "ssh").chmod(0o755)
    environment = {**BUILT, "PATH": f"{away}:{BUILT['PATH']}", "TMPDIR": str(away)}
    return subprocess.run(["sh", "-c", text], env=environment, capture_output=True, text=True, check=False, timeout=60)


def _advisory() -> dict[str, str]:
    advisories: dict[str, dict[str, str]] = json.loads((FOLDER / "advisories.json").read_text())
    return advisories[CVE]


def files(root: Path) -> dict[str, bytes]:
    """What lies under a folder."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_packages_have_the_bytes_that_the_advisory_pins() -> None:
    assert pinned(), "dpkg-deb builds other bytes here: say so in advisories.json, or the good run cannot succeed"


@pytest.mark.parametrize(
    ("said", "fixed", "state"),
    [
        ("installed 2.4.0-1", FIXED, "vulnerable"),
        ("installed 2.4.1-1", FIXED, "vulnerable"),
        ("installed 2.4.2-1", FIXED, "not_affected"),
        ("installed 2.4.10-1", FIXED, "not_affected"),
        ("installed 2.4.2-1~rc1", FIXED, "vulnerable"),
        ("config-files 2.4.0-1", FIXED, "unknown"),
        ("installed 2.4.0-1; rm", FIXED, "unknown"),
        ("installed", FIXED, "unknown"),
        ("", FIXED, "unknown"),
        ("installed 2.4.0-1", "2.4.3-1", "unknown"),
    ],
)
def test_the_diagnosis_compares_as_dpkg_does_and_knows_what_it_does_not_know(said: str, fixed: str, state: str) -> None:
    diagnose = runpy.run_path(str(FOLDER / "diagnose.py"))["diagnose"]
    assert diagnose(said, _advisory(), PACKAGE, fixed)["state"] == state
    assert diagnose(said, None, PACKAGE, fixed)["state"] == "unknown"


def test_the_pinned_version_is_installed_and_the_root_of_before_is_kept(catalog: Path) -> None:
    before = files(catalog / "root")

    done = run("apply.sh", catalog)

    assert done.returncode == 0, done.stderr
    assert f"Version: {FIXED}\n" in (catalog / "root/var/lib/dpkg/status").read_text()
    assert files(catalog / "root.before") == before


def test_other_bytes_than_the_pinned_are_refused_and_nothing_is_changed(catalog: Path) -> None:
    deb = catalog / "repo" / DEB
    deb.write_bytes(deb.read_bytes().replace(b"int(price)", b"bad(price)"))
    before = files(catalog)

    done = run("apply.sh", catalog)

    assert done.returncode != 0
    assert "has other bytes than the pin" in done.stderr
    assert files(catalog) == before


def test_once_more_it_keeps_the_root_of_before(catalog: Path) -> None:
    before = files(catalog / "root")
    assert run("apply.sh", catalog).returncode == 0

    assert run("apply.sh", catalog).returncode == 0

    assert files(catalog / "root.before") == before


def test_undone_it_is_as_before_byte_for_byte(catalog: Path) -> None:
    before = files(catalog / "root")
    assert run("apply.sh", catalog).returncode == 0

    done = run("rollback.sh", catalog)

    assert done.returncode == 0, done.stderr
    assert files(catalog / "root") == before
    assert not (catalog / "root.before").exists()


def test_an_earlier_upgrade_is_not_undone(catalog: Path) -> None:
    shutil.copytree(catalog / "root", catalog / "root.before")
    (catalog / "root/installed.sha256").write_text("the pin of another CVE\n")
    before = files(catalog)

    done = run("rollback.sh", catalog)

    assert done.returncode == 0, done.stderr
    assert "nothing to undo" in done.stdout
    assert files(catalog) == before
