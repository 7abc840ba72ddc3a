"""What the scripts of database-connections do to a real PostgreSQL; here the target is this machine."""

from __future__ import annotations

import json
import os
import runpy
import select
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo.stage import ROOT
from engine.domain.gate import SqlCheck
from engine.domain.runbook import GateStep
from engine.runbooks.shelf import Shelf
from tests.library.database_connections import scram
from tests.services.postgres import Postgres

FOLDER = ROOT / "runbooks" / "database-connections"
ACCOUNTS = Path(__file__).with_name("services") / "billing" / "accounts.sql"
SSH = '#!/bin/sh\n# The target: this machine.\nshift 2\nexec "$@"\n'
LIMITS = {"role": "billing_reports", "timeout_s": 1, "older_s": 1}
LIMITED = [("billing_reports", ["idle_in_transaction_session_timeout=1s"])]
Connect = Callable[[str], "psycopg.Connection[tuple[Any, ...]]"]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """PostgreSQL with the roles of `billing`, as a target has them."""
    with Postgres.started() as server:
        settings = ["-v", "ON_ERROR_STOP=1", "-v", f"scram={scram('of the verifier', b'salt')}"]
        psql(server, "postgres", [*settings, "-f", str(ACCOUNTS)])
        yield server


@pytest.fixture
def billing(server: Postgres) -> Iterator[Postgres]:
    """The same, without any setting."""
    yield server
    for role in ("billing_reports", "billing_app"):
        server.admin(f"ALTER ROLE {role} RESET ALL")


@pytest.fixture
def connect(billing: Postgres) -> Iterator[Connect]:
    """Opens sessions of a role, closed at the end."""
    with ExitStack() as opened:
        yield lambda role: opened.enter_context(
            psycopg.connect(host="127.0.0.1", port=billing.port, dbname="billing", user=role)
        )


def environment(server: Postgres, role: str) -> dict[str, str]:
    """With which psql comes in as this role."""
    return {"PATH": os.environ["PATH"], "PGPORT": str(server.port), "PGUSER": role, "LC_ALL": "C.UTF-8"}


def psql(server: Postgres, role: str, argv: list[str]) -> None:
    subprocess.run(
        ["psql", "-Xq", "-h", str(server.folder), "-d", "postgres", *argv],
        env=environment(server, role),
        check=True,
        timeout=60,
    )


def run(script: str, server: Postgres, folder: Path, limits: object = LIMITS) -> subprocess.CompletedProcess[str]:
    """Run it as the operator, with this artefact."""
    (folder / "limits.json").write_text(json.dumps(limits))
    (folder / "ssh").write_text(SSH)
    (folder / "ssh").chmod(0o755)
    text = (FOLDER / script).read_text()
    for old, new in (("/step/artefact", str(folder)), ("/var/lib/cluster/run", str(server.folder))):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    told = environment(server, "operator")
    told["PATH"] = f"{folder}:{told['PATH']}"
    return subprocess.run(["sh", "-c", text], env=told, capture_output=True, text=True, check=False, timeout=60)


def settings(server: Postgres) -> list[tuple[object, ...]]:
    """Every role that has some, with them."""
    return server.admin("SELECT rolname, rolconfig FROM pg_roles WHERE rolconfig IS NOT NULL ORDER BY rolname")


def alive(session: psycopg.Connection[tuple[Any, ...]]) -> bool:
    """Whether the server still answers in this session."""
    try:
        session.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def queries() -> dict[str, str]:
    """What the gates ask of staging."""
    steps = Shelf(ROOT / "runbooks").read("database-connections").runbook.steps
    gate = next(step for step in steps if isinstance(step, GateStep) and step.id == "tests-pass")
    return {check.id: check.query for check in gate.checks if isinstance(check, SqlCheck)}


def session(role: str | None, state: str, count: int, *, stuck: int = 0) -> dict[str, object]:
    """What the database says of some sessions."""
    return {"role": role, "state": state, "count": count, "longest_s": 60, "stuck": stuck}


LEAK = session("billing_reports", "idle in transaction", 22, stuck=22)


@pytest.mark.parametrize(
    ("limited", "sessions", "cause", "role"),
    [
        ([], [LEAK, session("billing_app", "idle", 2)], "idle_in_transaction", "billing_reports"),
        ([], [{**LEAK, "count": 20, "stuck": 20}], "unknown", ""),
        ([], [{**LEAK, "count": 21, "stuck": 21}], "idle_in_transaction", "billing_reports"),
        (["billing_app"], [LEAK], "idle_in_transaction", "billing_reports"),
        (["billing_reports"], [LEAK], "unknown", "billing_reports"),
        ([], [LEAK, session("billing_app", "idle in transaction", 1, stuck=1)], "unknown", ""),
        ([], [{**LEAK, "stuck": 11}], "unknown", ""),
        ([], [session("billing_app", "active", 25)], "too_few_connections", ""),
        ([], [session("billing_app", "idle", 25)], "unknown", ""),
        ([], [session("billing_app", "active", 2)], "unknown", ""),
    ],
)
def test_the_diagnosis_names_who_leaks_and_knows_what_it_does_not_know(
    limited: list[str], sessions: list[dict[str, object]], cause: str, role: str
) -> None:
    said = "\n".join(json.dumps(line) for line in ({"most": 30, "limited": limited}, *sessions))
    claim = runpy.run_path(str(FOLDER / "diagnose.py"))["diagnose"](said)
    assert (claim["cause"], claim["role"]) == (cause, role)


def test_what_the_diagnosis_asks_is_answered_to_the_reader(billing: Postgres, connect: Connect) -> None:
    look = runpy.run_path(str(FOLDER / "diagnose.py"))
    connect("billing_reports").execute("SELECT 1")
    command = look["LOOK"].replace("/var/lib/cluster/run", str(billing.folder)).split()

    done = subprocess.run(
        command,
        input=look["ASK"],
        env=environment(billing, "reader"),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    claim = look["diagnose"](done.stdout)
    assert claim["cause"] == "unknown"
    assert "1 of billing_reports: idle in transaction, for 0 s at most" in claim["evidence"]


@pytest.mark.parametrize("role", ["postgres", "billing_", 'billing_reports"; DROP', "billing_reports\n", "", None, 7])
def test_there_is_no_fix_for_another_role_than_one_of_billing(role: object) -> None:
    limits = runpy.run_path(str(FOLDER / "fix.py"))["limits"]
    with pytest.raises(ValueError, match="no role of billing"):
        limits({"cause": "idle_in_transaction", "role": role})
    with pytest.raises(ValueError, match="no fix for the cause"):
        limits({"cause": "too_few_connections", "role": "billing_reports"})


def test_who_leaks_is_ended_and_limited_and_nobody_else(billing: Postgres, connect: Connect, tmp_path: Path) -> None:
    leaking, other, idle = connect("billing_reports"), connect("billing_app"), connect("billing_reports")
    for one in (leaking, other):
        one.execute("SELECT sum(cents) FROM invoices")

    done = run("apply.sh", billing, tmp_path)  # the leak is young: its session is old at the second look only

    assert done.returncode == 0, done.stderr
    assert [alive(leaking), alive(other), alive(idle)] == [False, True, True]
    assert settings(billing) == LIMITED


def test_a_leak_that_comes_back_is_ended_by_the_server(billing: Postgres, connect: Connect, tmp_path: Path) -> None:
    assert run("apply.sh", billing, tmp_path).returncode == 0
    leaking = connect("billing_reports")
    leaking.execute("SELECT sum(cents) FROM invoices")

    assert select.select([leaking], [], [], 30)[0], "nothing came of it within 30 s"
    with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
        leaking.execute("SELECT 1")


def test_once_more_it_changes_nothing(billing: Postgres, tmp_path: Path) -> None:
    assert run("apply.sh", billing, tmp_path).returncode == 0

    done = run("apply.sh", billing, tmp_path)

    assert done.returncode == 0, done.stderr
    assert settings(billing) == LIMITED


@pytest.mark.parametrize(
    "limits",
    [
        {},
        [],
        {**LIMITS, "role": "operator"},
        {**LIMITS, "role": "billing_app; true"},
        {**LIMITS, "role": "billing_reports\n"},
        {**LIMITS, "role": 'billing_"'},
        {**LIMITS, "role": ["billing_reports"]},
        {**LIMITS, "timeout_s": 0},
        {**LIMITS, "timeout_s": "1"},
        {**LIMITS, "timeout_s": 1.5},
        {**LIMITS, "older_s": 601},
        {**LIMITS, "older_s": "1; true"},
        {**LIMITS, "timeout_s": 2},
        {**LIMITS, "more": 1},
    ],
)
def test_a_value_that_is_not_one_is_refused_and_nothing_is_changed(
    billing: Postgres, tmp_path: Path, limits: object
) -> None:
    done = run("apply.sh", billing, tmp_path, limits)

    assert done.returncode != 0
    assert settings(billing) == []


def test_a_setting_of_its_own_is_not_overwritten_and_not_undone(
    billing: Postgres, connect: Connect, tmp_path: Path
) -> None:
    billing.admin("ALTER ROLE billing_reports SET idle_in_transaction_session_timeout = '1h'")
    before = settings(billing)
    leaking = connect("billing_reports")
    leaking.execute("SELECT 1")

    done = run("apply.sh", billing, tmp_path)

    assert done.returncode != 0
    assert "no role without settings of its own" in done.stderr
    assert "nothing to undo" in run("rollback.sh", billing, tmp_path).stdout
    assert settings(billing) == before
    assert alive(leaking)


@pytest.mark.parametrize("role", ["billing_nobody", "billing_root"])
def test_a_role_that_is_not_there_or_is_a_superuser_is_refused(billing: Postgres, tmp_path: Path, role: str) -> None:
    if role == "billing_root":
        billing.admin("CREATE ROLE billing_root SUPERUSER")

    done = run("apply.sh", billing, tmp_path, {**LIMITS, "role": role})

    assert done.returncode != 0
    assert "not there" in done.stderr
    assert settings(billing) == []


def test_undone_the_role_has_no_limit(billing: Postgres, tmp_path: Path) -> None:
    assert run("apply.sh", billing, tmp_path).returncode == 0

    done = run("rollback.sh", billing, tmp_path)

    assert done.returncode == 0, done.stderr
    assert settings(billing) == []


def test_whoever_may_alter_the_verifier_shows_the_gates_no_other_catalog(billing: Postgres, connect: Connect) -> None:
    """The operator's role can set the verifier's `search_path`: the views of a catalog of its own are empty."""
    billing.admin("CREATE SCHEMA forged", "billing")
    for name in ("pg_stat_activity", "pg_db_role_setting", "pg_roles"):
        billing.admin(f"CREATE VIEW forged.{name} AS TABLE pg_catalog.{name} LIMIT 0", "billing")
    billing.admin("GRANT USAGE ON SCHEMA forged TO public", "billing")
    billing.admin("GRANT SELECT ON ALL TABLES IN SCHEMA forged TO public", "billing")
    billing.admin("ALTER ROLE billing_reports SET work_mem = '4MB'")
    with connect("operator") as operator:
        operator.execute("ALTER ROLE verifier SET search_path = forged, pg_catalog")
    for _ in range(2):
        connect("billing_reports")
    try:
        with connect("verifier") as verifier:
            assert verifier.execute("SELECT * FROM pg_stat_activity").fetchall() == [], "nothing was forged"
            told = {name: verifier.execute(query.encode()).fetchall() for name, query in queries().items()}
    finally:
        billing.admin("ALTER ROLE verifier RESET search_path")
        billing.admin("DROP SCHEMA forged CASCADE", "billing")

    assert told["used"][0][0] > 0
    assert told["new"] == [(2,)]
    assert ("billing_reports", "work_mem=4MB") in told["setting"]
    assert told["idle"] == [(0,)]
