"""database-connections: the reports of `billing` hold almost all connections of its PostgreSQL; on staging too."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from pathlib import Path

from demo.world.image import POSTGRES
from demo.world.service import Service
from demo.world.target import PRODUCTION, STAGING, Target
from tests.library.case import Bad, Case, Edit

PASSWORDS = {env: secrets.token_urlsafe(24) for env in (STAGING, PRODUCTION)}
""" Of the verifier's role in each database. """
SESSIONS = (
    "psql -XAt -h /var/lib/cluster/run billing -c"
    " \"SELECT pid, usename, backend_start FROM pg_stat_activity WHERE usename LIKE 'billing%' ORDER BY pid\" -c"
    ' "SELECT rolname, rolconfig FROM pg_roles ORDER BY rolname"'
)
""" Every session of the service with its start, and every role with its settings. """
HELD = (
    'psql -XAt -h /var/lib/cluster/run billing -c "SELECT count(*) FROM pg_stat_activity WHERE usename ='
    " 'billing_reports' AND state = 'idle in transaction' AND state_change < now() - interval '10 s'\""
)
ITERATIONS = 4096
FILES = ("accounts.sql", "billing.py", "pg_hba.conf", "pg_ident.conf", "postgresql.conf", "service.sh")


def scram(password: str, salt: bytes) -> str:
    """What PostgreSQL keeps of a password (RFC 5803): nobody who reads it can log in with it."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${ITERATIONS}:{salt64}${stored64}:{server64}"


def data(_env: str) -> Mapping[str, bytes]:
    """Nothing that matters: what it has is in the database."""
    return {"billing/log/app.log": b"2026-01-01T00:00:00Z INFO started\n"}


def held(target: Target) -> int:
    """How many connections the reports hold in a transaction in which nothing happens."""
    done = target.run("verifier", HELD)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def gone(target: Target) -> bool:
    """No connection is held for long, and the role that leaked is the one that is limited."""
    limited = "billing_reports|{idle_in_transaction_session_timeout=5s}"
    return held(target) == 0 and limited in target.run("verifier", SESSIONS).stdout


CASE = Case(
    runbook="database-connections",
    broke="reports that leak connections: 22 of 30 are idle in transaction",
    service=Service(
        name="billing",
        settings=lambda env: {"SCRAM": scram(PASSWORDS[env], secrets.token_bytes(16))},
        data=data,
        files={name: Path(__file__).with_name("services").joinpath("billing", name).read_bytes() for name in FILES},
        watched=False,
        database=5432,
    ),
    labels={"alertname": "DatabaseConnectionsExhausted", "severity": "critical", "env": "production"},
    gone=gone,
    ripe=lambda target: held(target) == 22,
    still=SESSIONS,
    secrets={f"kv/data/billing/{env}/gate": {"password": password} for env, password in PASSWORDS.items()},
    image=POSTGRES,
    bad=(
        Bad(
            name="the sessions are ended, and their role is not limited: the leak comes back",
            edits=(
                Edit(
                    path="database-connections/apply.sh",
                    old="ALTER ROLE :\"role\" SET idle_in_transaction_session_timeout = :'timeout';\n",
                    new="SELECT 'not limited';\n",
                ),
            ),
            gate="tests-pass",
            check="idle",
        ),
        Bad(
            name="another role is limited than the one that leaks",
            edits=(
                Edit(
                    path="database-connections/fix.py",
                    old='"role": diagnosis["role"],',
                    new='"role": "billing_app",',
                ),
            ),
            gate="tests-pass",
            check="setting",
        ),
        Bad(
            name="the sessions of everybody are ended, those that answer requests too",
            edits=(
                Edit(
                    path="database-connections/apply.sh",
                    old="WHERE usename = :'role' AND state LIKE 'idle in transaction%'\n"
                    "  AND state_change < now() - :'older'::interval",
                    new="WHERE usename LIKE 'billing%'",
                ),
            ),
            gate="tests-pass",
            check="answers",
        ),
    ),
)
