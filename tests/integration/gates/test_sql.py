"""Gate kind `sql` against a real Postgres, and against servers that are none."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from engine.domain.databases import DatabaseAccess
from engine.domain.directory import Address, Directory, Site
from engine.domain.gate import Facts, Sample, SqlCheck
from engine.domain.states import Verdict
from engine.gates import kinds
from tests.services.postgres import Postgres
from tests.unit.gates.databases import Entering

PASSWORD = "correct horse"
FACTS = Facts(inputs={"name": "it's"}, claims={}, digests={}, hosts={"shop": "shop.demo"})
CHECK = SqlCheck(id="q", target="shop", query="SELECT n FROM t", expect="rows[0].n == 7", timeout_s=5)


@dataclass
class Shop:
    """A database with a table `t` (one row, n = 7), and a role `gate` that may read it."""

    server: Postgres
    name: str

    def do(self, statement: str) -> list[tuple[object, ...]]:
        return self.server.admin(statement, self.name)


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    with Postgres.started() as running:
        rules = Path(running.data / "pg_hba.conf")
        ours = "host all gate 127.0.0.1/32 scram-sha-256\nhost all plain 127.0.0.1/32 password\n"
        rules.write_text(ours + rules.read_text())
        for role in ("gate", "plain"):
            running.admin(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        running.admin("SELECT pg_reload_conf()")
        yield running


@pytest.fixture
def shop(server: Postgres) -> Shop:
    made = Shop(server, server.new_database().rpartition("/")[2])
    made.do("CREATE TABLE t AS SELECT 7 AS n, 'it''s' AS name")
    made.do("GRANT SELECT ON t TO gate, plain")
    made.do("CREATE TABLE secret AS SELECT 1 AS n")
    made.do("GRANT INSERT, UPDATE, DELETE ON t TO gate")
    return made


def measured(
    port: int, name: str, query: str = CHECK.query, *, user: str = "gate", password: str = PASSWORD, **other: object
) -> Sample:
    site = Site(name="shop.demo", ports={5432: Address(host="127.0.0.1", port=port)})
    access = DatabaseAccess(host="shop.demo", port=5432, name=name, user=user, password=password)
    check = replace(CHECK, query=query, **other)  # type: ignore[arg-type]  # fields of the check
    return kinds(Directory(sites={"shop.demo": site}), "")["sql"](check, FACTS, Entering(access))


def of(shop: Shop, query: str = CHECK.query, **other: object) -> Sample:
    return measured(shop.server.port, shop.name, query, **other)  # type: ignore[arg-type]


def test_a_row_is_judged(shop: Shop) -> None:
    assert of(shop).verdict is Verdict.HELD
    assert of(shop, expect="rows[0].n == 8").verdict is Verdict.FAILED


def test_numbers_texts_and_nulls_come_as_they_are(shop: Shop) -> None:
    query = "SELECT 1.5::numeric AS a, 2::bigint AS b, 'x' AS c, NULL::int AS d, true AS e, ARRAY[1,2] AS f"
    expect = (
        'rows[0].a == 1.5 && rows[0].b == 2 && rows[0].c == "x" && rows[0].d == null && rows[0].e && rows[0].f[1] == 2'
    )

    assert of(shop, query, expect=expect).verdict is Verdict.HELD


@pytest.mark.parametrize(
    "query",
    ["SELECT n FROM t;", "SELECT n FROM t -- a comment", "WITH x AS (SELECT n FROM t) SELECT * FROM x", "TABLE t"],
)
def test_the_ways_to_write_a_query(shop: Shop, query: str) -> None:
    assert of(shop, query).verdict is Verdict.HELD


def test_no_rows_are_no_data(shop: Shop) -> None:
    sample = of(shop, "SELECT n FROM t WHERE n > 9", expect="size(rows) == 0")

    assert (sample.verdict, sample.no_data) == (Verdict.INCONCLUSIVE, True)


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM t",
        "SELECT n FROM t; DELETE FROM t",
        "SELECT 7 AS n) AS answer; DELETE FROM t; SELECT * FROM (SELECT 7 AS n",
        "SELECT 7 AS n) AS answer; COMMIT; DELETE FROM t; SELECT 7::text FROM (SELECT 7 AS n",
        "WITH gone AS (DELETE FROM t RETURNING n) SELECT n FROM gone",
        "SELECT set_config('transaction_read_only', 'off', true) AS n",
        "SELECT nextval('s') AS n",
        "SELECT pg_read_file('/etc/passwd') AS n",
        "SELECT n FROM secret",
        "SELECT nothing FROM t",
        "SELEC n FROM t",
        "",
        "COPY t TO STDOUT",
        "SELECT n, n FROM t",
    ],
)
def test_what_is_no_reading_query_is_an_error_and_changes_nothing(shop: Shop, query: str) -> None:
    shop.do("CREATE SEQUENCE s")
    shop.do("GRANT ALL ON SEQUENCE s TO gate")

    assert of(shop, query).verdict is Verdict.ERROR
    assert shop.do("SELECT n FROM t") == [(7,)]
    assert shop.do("SELECT is_called FROM s") == [(False,)]


def test_what_a_read_only_transaction_lets_through_is_rolled_back(shop: Shop) -> None:
    """Before Postgres 16 it lets large objects be made."""
    of(shop, "SELECT lo_create(0) AS n")

    assert shop.do("SELECT count(*) FROM pg_largeobject_metadata") == [(0,)]


def test_a_superuser_is_refused(shop: Shop) -> None:
    shop.do("ALTER ROLE gate SUPERUSER")
    try:
        sample = of(shop)
    finally:
        shop.do("ALTER ROLE gate NOSUPERUSER")

    assert (sample.verdict, "superuser" in sample.why) == (Verdict.ERROR, True)


def test_an_input_is_a_value(shop: Shop) -> None:
    assert of(shop, "SELECT n FROM t WHERE name = {{ inputs.name }}").verdict is Verdict.HELD


def test_too_many_rows_and_too_large_ones_are_errors(shop: Shop) -> None:
    assert of(shop, "SELECT 7 AS n FROM generate_series(1, 100)").verdict is Verdict.HELD
    assert of(shop, "SELECT 7 AS n FROM generate_series(1, 101)").verdict is Verdict.ERROR
    assert of(shop, "SELECT 7 AS n FROM generate_series(1, 200000)").verdict is Verdict.ERROR
    assert of(shop, "SELECT 7 AS n, repeat('x', 100000000) AS x").verdict is Verdict.ERROR
    assert of(shop, "SELECT 7 AS n, repeat('x', 9000) AS x FROM generate_series(1, 50)").verdict is Verdict.ERROR


def test_a_slow_query_is_ended_in_time(shop: Shop) -> None:
    begun = time.monotonic()

    assert of(shop, "SELECT 7 AS n FROM pg_sleep(60)", timeout_s=1).verdict is Verdict.FAILED
    assert time.monotonic() - begun < 7
    assert shop.do("SELECT count(*) FROM pg_stat_activity WHERE usename = 'gate' AND state = 'active'") == [(0,)]


def test_a_wrong_password_never_holds_and_is_not_told(shop: Shop) -> None:
    sample = of(shop, password="wrong horse")

    assert sample.verdict is not Verdict.HELD
    assert "horse" not in repr(sample)


def test_a_server_that_wants_to_see_the_password_does_not(shop: Shop) -> None:
    """Who owns the target's host could put a server there that asks for it in clear."""
    sample = of(shop, user="plain")

    assert sample.verdict is not Verdict.HELD
    assert PASSWORD not in repr(sample)


def test_the_environment_does_not_choose_the_way(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGOPTIONS", "PGSSLMODE"):
        monkeypatch.setenv(name, "nonsense")

    assert of(shop).verdict is Verdict.HELD


def test_a_database_that_refuses_the_connection_fails() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        sample = measured(free.getsockname()[1], "shop")

    assert (sample.verdict, "refused" in sample.why) == (Verdict.FAILED, True)


@pytest.fixture
def stranger() -> Iterator[int]:
    """A server that takes every connection and sends endless nonsense."""
    over = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.1)

    def babble(connection: socket.socket) -> None:
        with connection:
            while not over.wait(0.05):
                try:
                    connection.sendall(b"N")
                except OSError:
                    return

    def take() -> None:
        while not over.is_set():
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            threading.Thread(target=babble, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    yield server.getsockname()[1]
    over.set()
    thread.join(5)
    server.close()


def test_a_server_that_is_none_fails_in_time(stranger: int) -> None:
    begun = time.monotonic()

    assert measured(stranger, "shop", timeout_s=1).verdict in {Verdict.FAILED, Verdict.ERROR}
    assert time.monotonic() - begun < 9


def test_a_full_database_fails(shop: Shop) -> None:
    """Connection exhaustion is a measurement of the service, not a fault of the check."""
    shop.do("ALTER ROLE gate CONNECTION LIMIT 0")
    try:
        sample = of(shop)
    finally:
        shop.do("ALTER ROLE gate CONNECTION LIMIT -1")

    assert (sample.verdict, "too many connections" in sample.why) == (Verdict.FAILED, True)


def test_a_search_path_that_somebody_gave_the_role_forges_no_catalog(shop: Shop) -> None:
    """Whoever may alter the role could put a schema of his own before the server's."""
    shop.do("CREATE SCHEMA forged")
    shop.do("CREATE VIEW forged.pg_stat_activity AS SELECT 0 AS pid WHERE false")
    shop.do("CREATE FUNCTION forged.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS $$SELECT 'x'$$")
    shop.do("GRANT USAGE ON SCHEMA forged TO gate")
    shop.do("GRANT SELECT ON forged.pg_stat_activity TO gate")
    shop.do(f'ALTER ROLE gate IN DATABASE "{shop.name}" SET search_path = forged, pg_catalog, public')

    seen = of(shop, "SELECT count(*) AS n FROM pg_stat_activity", expect="rows[0].n > 0")

    assert seen.verdict is Verdict.HELD, seen
