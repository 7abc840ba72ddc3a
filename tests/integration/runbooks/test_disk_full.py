"""The runbook `disk-full`: it loads, and its scripts do what the steps promise, on the real service."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from engine.domain import journey
from engine.runbooks import Shelf
from tests.integration.runbooks.disk_full import SCRIPTS, Bench

CLAIM = {"cause": "log_growth", "path": "/srv/checkout/log/app.log", "biggest_bytes": 64 << 20, "used_percent": 88}
CLAIMS = json.dumps({"diagnose": CLAIM})


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_it_loads_without_a_finding_and_has_its_nine_steps() -> None:
    snapshot = Shelf(SCRIPTS.parent).read("disk-full")

    assert " ".join(step.id for step in snapshot.runbook.steps) == (
        "receive diagnose diagnosis-confirmed fix staging tests-pass production production-healthy close"
    )
    line = [leg.id for leg in journey.plan(snapshot.runbook).line]
    assert line[4:8] == ["staging:rehearse", "staging:rollback", "staging:rollback-gate", "staging"]


def test_no_gate_is_longer_than_ten_lines() -> None:
    text = (SCRIPTS.parent / "disk-full.yaml").read_text()
    steps = text.split("\n  - ")
    gates = [step.strip().splitlines() for step in steps if "kind: gate" in step]

    assert len(gates) == 3
    assert max(map(len, gates)) <= 10


def test_the_scripts_are_clean_shell() -> None:
    """No eval, and every expansion quoted; `sh -n` for the rest."""
    for script in SCRIPTS.glob("*.sh"):
        assert subprocess.run(["sh", "-n", script], check=False, capture_output=True, timeout=10).returncode == 0
        assert "eval" not in script.read_text()


# -- diagnose


def fill(bench: Bench, log_mb: float, other_mb: float) -> None:
    (bench.checkout / "log" / "app.log").write_bytes(b"x" * int(log_mb * (1 << 20)))
    (bench.checkout / "other").write_bytes(b"x" * int(other_mb * (1 << 20)))


def diagnose(bench: Bench, used_mb: float) -> dict[str, object]:
    """Diagnose with a df that says how much is used: the test's folder lies on a disk of its own size."""
    (bench.folder / "bin" / "df").write_text(
        f"#!/bin/sh\necho Filesystem 1-blocks Used Available Capacity Mounted on\necho /dev/vdb 100000000 "
        f"{int(used_mb * (1 << 20))} 1 88% /srv\n"
    )
    (bench.folder / "bin" / "df").chmod(0o755)
    done = bench.run("diagnose.py", str(bench.checkout.parent))
    assert done.returncode == 0, done.stderr
    claim: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return claim


def test_a_grown_debug_log_is_the_cause(bench: Bench) -> None:
    fill(bench, log_mb=3, other_mb=1)

    claim = diagnose(bench, used_mb=4)

    assert (claim["cause"], claim["used_percent"], claim["biggest_bytes"]) == ("log_growth", 88, 3 << 20)
    assert claim["path"] == str(bench.checkout / "log" / "app.log")


def test_another_big_file_is_no_known_cause(bench: Bench) -> None:
    fill(bench, log_mb=1, other_mb=3)

    assert diagnose(bench, used_mb=4)["cause"] == "unknown"


def test_a_log_that_explains_too_little_is_no_known_cause(bench: Bench) -> None:
    fill(bench, log_mb=2, other_mb=1)

    assert diagnose(bench, used_mb=40)["cause"] == "unknown"


def test_a_log_that_is_not_at_debug_is_no_known_cause(bench: Bench) -> None:
    fill(bench, log_mb=3, other_mb=1)
    bench.configure('{"log_level": "info"}')

    assert diagnose(bench, used_mb=4)["cause"] == "unknown"


def test_a_target_that_cannot_be_looked_at_ends_the_step(bench: Bench) -> None:
    (bench.checkout / "checkout.json").unlink()

    done = bench.run("diagnose.py", str(bench.checkout.parent))

    assert done.returncode != 0
    assert "could not look at the target" in done.stderr


# -- fix


def test_the_same_diagnosis_gives_the_same_bytes(bench: Bench) -> None:
    assert bench.fix(CLAIMS).returncode == 0
    first = {path.name: path.read_bytes() for path in (bench.step / "out").iterdir()}
    assert bench.fix(CLAIMS).returncode == 0

    assert {path.name: path.read_bytes() for path in (bench.step / "out").iterdir()} == first
    assert json.loads(first["fix.json"]) == {"log_level": "info", "rotate_mb": 8}
    assert set(first) == {"fix.json", "fix.sh"}


@pytest.mark.parametrize(
    "claims",
    [
        "{}",
        "[]",
        "nonsense",
        json.dumps({"diagnose": {**CLAIM, "cause": "unknown"}}),
        json.dumps({"diagnose": {**CLAIM, "biggest_bytes": "'; reboot; '"}}),
        json.dumps({"diagnose": {**CLAIM, "biggest_bytes": True}}),
        json.dumps({"diagnose": None}),
    ],
)
def test_without_a_diagnosis_there_is_no_fix(bench: Bench, claims: str) -> None:
    assert bench.fix(claims).returncode != 0
    assert not list((bench.step / "out").iterdir())


# -- apply and roll back


def test_applying_makes_room_loses_no_line_and_leaves_one_effect(bench: Bench) -> None:
    log = bench.checkout / "log" / "app.log"
    old = b"a line that nobody may lose\n" * 100_000
    log.write_bytes(old)
    bench.fix(CLAIMS)
    with bench.service() as service:
        done = bench.run("apply.sh", env={"SIGNALBOX_ATTEMPT": "01ABC'; touch evil; '"})

        assert done.returncode == 0, done.stderr
        assert (service.config.log_level, service.config.rotate_mb, service.problem) == ("info", 8, "")
    (archive,) = (bench.checkout / "log").glob("*.gz")
    assert hashlib.sha256(gzip.decompress(archive.read_bytes())[: len(old)]).digest() == hashlib.sha256(old).digest()
    assert archive.stat().st_size < len(old) / 10
    assert sorted(path.name for path in (bench.checkout / "log").iterdir()) in (
        [archive.name],
        ["app.log", archive.name],
    )
    assert [line.split()[1] for line in bench.effects()] == ["01ABCtouchevil"]
    assert not list(bench.folder.rglob("evil"))


def test_applying_twice_has_one_effect(bench: Bench) -> None:
    bench.fix(CLAIMS)
    with bench.service():
        assert bench.run("apply.sh").returncode == 0
        assert bench.run("apply.sh").returncode == 0

    assert len(bench.effects()) == 1


def test_keys_that_the_fix_does_not_know_stay(bench: Bench) -> None:
    bench.configure('{"log_level": "debug", "theme": "dark"}')
    bench.fix(CLAIMS)
    with bench.service():
        bench.run("apply.sh")

    written = json.loads((bench.checkout / "checkout.json").read_text())
    assert written == {"log_level": "info", "rotate_mb": 8, "theme": "dark"}


def test_rolling_back_brings_the_configuration_of_before(bench: Bench) -> None:
    before = (bench.checkout / "checkout.json").read_bytes()
    bench.fix(CLAIMS)
    with bench.service() as service:
        bench.run("apply.sh")
        done = bench.run("rollback.sh")

        assert (done.returncode, service.config.log_level) == (0, "debug"), done.stderr
    assert (bench.checkout / "checkout.json").read_bytes() == before


def test_do_undo_do_again_works_and_counts_two_effects(bench: Bench) -> None:
    bench.fix(CLAIMS)
    with bench.service() as service:
        for script in ("apply.sh", "rollback.sh", "apply.sh"):
            assert bench.run(script).returncode == 0

        assert service.config.log_level == "info"
    assert len(bench.effects()) == 2


def test_rolling_back_what_was_never_applied_changes_nothing(bench: Bench) -> None:
    before = (bench.checkout / "checkout.json").read_bytes()
    with bench.service():
        assert bench.run("rollback.sh").returncode == 0

    assert (bench.checkout / "checkout.json").read_bytes() == before


def test_an_older_release_is_unwell_after_the_fix_and_well_after_the_rollback(bench: Bench) -> None:
    """The fault `production` of the demo: the health gate fails, and the rollback mends it."""
    bench.fix(CLAIMS)
    with bench.service(old_release=True) as service:
        assert bench.run("apply.sh").returncode == 0
        assert service.health()[0] == 500
        assert bench.run("rollback.sh").returncode == 0
        assert service.health()[0] == 200


def test_without_its_artefact_nothing_is_applied(bench: Bench) -> None:
    assert bench.run("apply.sh").returncode != 0
    assert bench.effects() == []


def test_a_service_that_does_not_reload_ends_the_step(bench: Bench) -> None:
    bench.fix(CLAIMS)
    (bench.folder / "bin" / "sleep").write_text("#!/bin/sh\n")  # nobody waits half a minute for nobody
    (bench.folder / "bin" / "sleep").chmod(0o755)

    done = bench.run("apply.sh")

    assert done.returncode != 0
    assert "did not reload" in done.stderr
