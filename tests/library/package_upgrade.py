"""package-upgrade: `catalog` runs with a package of which a CVE is known; on staging too, for there is the same."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from demo.stage import ROOT
from demo.world import monitoring
from demo.world.service import Service
from demo.world.target import Target
from engine.domain.errors import Unavailable
from tests.library.case import Bad, Case, Edit
from tests.library.memory_leak import STARTED

CVE = "CVE-2026-20817"
PACKAGE = "python3-pricefeed"
VULNERABLE, STILL_VULNERABLE, FIXED = "2.4.0-1", "2.4.1-1", "2.4.2-1"
BUILT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SOURCE_DATE_EPOCH": "1767225600", "LC_ALL": "C.UTF-8"}
RUN = b"#!/bin/sh\n# Runs `catalog`.\nexec /usr/bin/python3 -IS /run/world/catalog.py\n"
CONTROL = """\
Package: {package}
Version: {version}
Architecture: all
Maintainer: Team Catalog <catalog@example.org>
Description: reads price lists
"""
MODULE = '''\
"""Reads price lists."""

VERSION = "{version}"


def prices(text):
    """SKU -> price."""
    return {{sku: {number}(price) for sku, price in (line.split(",") for line in text.splitlines()[1:])}}
'''


def deb(version: str, folder: Path) -> Path:
    """The package of this version, the same bytes wherever it is built: nothing of it is compressed."""
    tree = folder / version
    files = {
        "DEBIAN/control": CONTROL.format(package=PACKAGE, version=version),
        "usr/lib/python3/dist-packages/pricefeed.py": MODULE.format(
            version=version, number="int" if version == FIXED else "eval"
        ),
    }
    for name, text in files.items():
        file = tree / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for path in (tree, *tree.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    made = folder / f"{PACKAGE}_{version}_all.deb"
    _tool("dpkg-deb", "--build", "--root-owner-group", "-Znone", str(tree), str(made))
    return made


@cache
def data(_env: str) -> Mapping[str, bytes]:
    """A repository of three versions, and the root of the service, into which dpkg installed the first."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        debs = [deb(version, folder) for version in (VULNERABLE, STILL_VULNERABLE, FIXED)]
        root = folder / "root"
        database = root / "var" / "lib" / "dpkg"
        for name in ("info", "updates"):
            (database / name).mkdir(parents=True)
        (database / "status").touch()
        _tool("dpkg", f"--root={root}", f"--log={folder}/log", "--force-not-root", "--install", str(debs[0]))
        (database / "updates" / ".keep").touch()  # an empty folder, which dpkg needs, is no file of the data disk
        return {
            "catalog/data/prices.csv": b"sku,price\nSKU-20817,1999\n",
            "catalog/log/app.log": b"2026-01-01T00:00:00Z INFO started\n",
            **{f"catalog/repo/{made.name}": made.read_bytes() for made in debs},
            **{f"catalog/{path.relative_to(folder)}": path.read_bytes() for path in root.rglob("*") if path.is_file()},
        }


def pinned() -> bool:
    """Whether the advisory's sha256 is that of the package as it is built here."""
    advisory = json.loads((ROOT / "runbooks" / "package-upgrade" / "advisories.json").read_text())[CVE]
    made = data("")[f"catalog/repo/{PACKAGE}_{FIXED}_all.deb"]
    return bool(advisory["sha256"] == hashlib.sha256(made).hexdigest())


def gone(target: Target) -> bool:
    """The fixed version is what dpkg has, and what the process loaded."""
    try:
        loaded = json.loads(monitoring.get(f"{target.http_url}/loaded"))["loaded"]
    except Unavailable:
        return False
    query = f"dpkg-query --admindir=/srv/catalog/root/var/lib/dpkg -W -f='${{Version}}' {PACKAGE}"
    return bool(
        loaded == [{"package": PACKAGE, "version": FIXED}] and target.run("verifier", query).stdout.strip() == FIXED
    )


def _tool(*argv: str) -> None:
    """Run one tool of dpkg's, wherever it is run by whomever."""
    done = subprocess.run(argv, env=BUILT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv[0]}: {done.stderr}"


CASE = Case(
    runbook="package-upgrade",
    broke="a package with a known flaw (a CVE), installed and loaded",
    service=Service(
        name="catalog",
        settings=lambda _env: {},
        data=data,
        files={
            "service.sh": RUN,
            "catalog.py": Path(__file__).with_name("services").joinpath("catalog.py").read_bytes(),
        },
        watched=False,
    ),
    labels={
        "alertname": "VulnerablePackage",
        "severity": "critical",
        "env": "production",
        "vuln_id": CVE,
        "resource": PACKAGE,
        "installed_version": VULNERABLE,
        "fixed_version": FIXED,
    },
    gone=gone,
    still=STARTED,
    bad=(
        Bad(
            name="the fixed version is installed, and the old process runs on",
            edits=(Edit(path="package-upgrade/apply.sh", old="touch drain\n", new="echo drained\n"),),
            gate="tests-pass",
            check="loaded",
        ),
        Bad(
            name="the fix is for another CVE, and its version still vulnerable",
            edits=(
                Edit(path="package-upgrade/fix.py", old="= advisories[cve]\n", new='= advisories["CVE-2026-11873"]\n'),
            ),
            gate="tests-pass",
            check="installed",
        ),
    ),
)
