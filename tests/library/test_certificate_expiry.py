"""What the scripts of certificate-expiry do when something is not as it should be; here the target is a folder."""

from __future__ import annotations

import runpy
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from demo.stage import ROOT as PROJECT
from tests.doubles.authority import Authority
from tests.library.certificate_expiry import ISSUING, KEY, NAMES, OLD, OTHER_KEY, RENEWED, data

SSH = '#!/bin/sh\n# The target: this machine.\nshift 2\nexec sh -c "$1"\n'
FOLDER = PROJECT / "runbooks" / "certificate-expiry"
LEAF = OLD.removesuffix(ISSUING.pem)
LONG = RENEWED.removesuffix(ISSUING.pem)
DIAGNOSE: dict[str, Any] = runpy.run_path(str(FOLDER / "diagnose.py"))
FIX: dict[str, Any] = runpy.run_path(str(FOLDER / "fix.py"))


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    """The service's files as they lie on a target; nobody runs the service."""
    for name, content in data("").items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "shop" / "tls"


def run(script: str, tls: Path, chain: bytes = RENEWED) -> subprocess.CompletedProcess[str]:
    """Run it with this artefact. It does not wait for a service that is not there."""
    away = tls.parent.parent
    (away / "chain.pem").write_bytes(chain)
    text = (FOLDER / script).read_text()
    for old, new in (("/step/artefact", str(away)), ("/srv/shop/tls", str(tls)), ("touch reload\n", "exit 0\n")):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (away / "ssh").write_text(SSH)
    (away / "ssh").chmod(0o755)
    environment = {"PATH": f"{away}:/usr/bin:/bin"}
    return subprocess.run(["sh", "-c", text], env=environment, capture_output=True, text=True, check=False, timeout=60)


def files(folder: Path) -> dict[str, bytes]:
    """What lies in it."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def diagnose(served: bytes, in_file: bytes) -> dict[str, Any]:
    """What is claimed when the target said this."""
    said = b"== served\n" + served + b"\n== file\n" + in_file
    claim: dict[str, Any] = DIAGNOSE["diagnose"](said.decode(), time.time())
    return claim


@pytest.mark.parametrize(
    ("served", "in_file", "cause"),
    [
        (LEAF, OLD, "near_expiry"),
        (LONG, RENEWED, "unknown"),
        (LEAF, RENEWED, "unknown"),
        (LEAF, b"", "unknown"),
        (LEAF, LEAF, "wrong_chain"),
        (LEAF, LEAF + Authority("Company Issuing").pem, "wrong_chain"),
    ],
    ids=["near", "long", "not what the file has", "no file", "no issuer", "another issuer of that name"],
)
def test_the_diagnosis_tells_one_cause_from_another(served: bytes, in_file: bytes, cause: str) -> None:
    assert diagnose(served, in_file)["cause"] == cause


@pytest.mark.parametrize("served", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_nonsense_is_no_diagnosis(served: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        diagnose(served, OLD)


def fixed(page: bytes, **claim: object) -> str:
    """What the fix makes of the CA's page."""
    made: str = FIX["chain"]({**diagnose(LEAF, OLD), **claim}, page.decode())
    return made


def test_of_the_page_only_the_certificates_are_taken() -> None:
    assert fixed(b"$(reboot)\n" + RENEWED.replace(b"-----END", b"\n-----END") + b"subject=x\n") == RENEWED.decode()


@pytest.mark.parametrize(
    ("page", "claim", "why"),
    [
        (ISSUING.issue(OTHER_KEY, NAMES, 90), {}, "for another key"),
        (b"<html>", {}, "has 0 certificates"),
        (LONG * 5, {}, "has 5 certificates"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", {}, "openssl reads no certificate"),
        (RENEWED, {"cause": "wrong_chain"}, "no fix for the cause 'wrong_chain'"),
    ],
)
def test_what_is_not_the_renewed_one_is_no_fix(page: bytes, claim: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        fixed(page, **claim)


def test_a_renewed_one_has_the_key_that_was_diagnosed() -> None:
    assert diagnose(LEAF, OLD)["public_key"] == diagnose(LONG, RENEWED)["public_key"]
    other = ISSUING.issue(OTHER_KEY, NAMES, 2)
    assert diagnose(other, other)["public_key"] != diagnose(LEAF, OLD)["public_key"]
    assert ISSUING.issue(KEY, NAMES, 90) != LONG


def test_it_is_put_in_place_and_the_old_one_kept(tls: Path) -> None:
    before = files(tls)

    done = run("apply.sh", tls)

    assert done.returncode == 0, done.stderr
    assert files(tls) == {**before, "chain.pem": RENEWED, "chain.pem.before": OLD}


def test_once_more_it_keeps_the_one_of_before(tls: Path) -> None:
    assert run("apply.sh", tls).returncode == 0
    once = files(tls)

    assert run("apply.sh", tls).returncode == 0

    assert files(tls) == once


def test_undone_it_is_as_before_byte_for_byte(tls: Path) -> None:
    before = files(tls)
    assert run("apply.sh", tls).returncode == 0

    done = run("rollback.sh", tls)

    assert done.returncode == 0, done.stderr
    assert files(tls) == before


def test_what_was_not_put_in_place_is_not_undone(tls: Path) -> None:
    (tls / "chain.pem.before").write_bytes(b"of the year before\n")
    before = files(tls)

    done = run("rollback.sh", tls)

    assert done.returncode == 0, done.stderr
    assert "nothing to undo" in done.stdout
    assert files(tls) == before
