"""A Postgres with three roles, as `signalbox database grants` makes it: the owner, the bot and the worker."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
import sqlalchemy as sa

from engine.orchestration.adapters import Adapters
from engine.orchestration.watch import Watch
from engine.service import People, Service
from engine.store import claims, grants, migrate
from engine.store.session import Database
from engine.wiring import make_worker
from tests.doubles.engine import (
    FakeClock,
    FakeGates,
    FakeHarness,
    FakeHypervisor,
    FakeProbeRunner,
    FakeRunner,
    FakeSecrets,
    FakeShelf,
    FakeTrigger,
)
from tests.doubles.played_agents import FakeAgents, call, with_agent
from tests.doubles.toy import directory
from tests.integration.engine.conftest import Box, postgres
from tests.services.postgres import Postgres

__all__ = ["postgres"]

OWNER = "signalbox_owner"
ROLES = (OWNER, grants.BOT, grants.WORKER)
APPROVERS = People(approvers=("UANA", "UBEN"))


@dataclass(frozen=True)
class Roles:
    """One database, and how each role connects to it."""

    url: sa.URL

    def of(self, role: str) -> str:
        """The URL of a role."""
        return self.url.set(username=role).render_as_string(hide_password=False)

    def psql(self, script: str, role: str = OWNER) -> subprocess.CompletedProcess[str]:
        """Pipe a script to psql, as the README says it."""
        at = [f"--host={self.url.host}", f"--port={self.url.port}", f"--username={role}"]
        return subprocess.run(
            ["psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", *at, self.url.database or ""],
            input=script,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def roles(postgres: Postgres) -> Roles:
    """An empty database of a plain owner's, and two roles that may do nothing yet."""
    url = sa.engine.make_url(postgres.new_database())
    admin = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        there = set(connection.scalars(sa.text("SELECT rolname FROM pg_roles")))
        for role in ROLES:
            if role not in there:
                connection.execute(sa.text(f"CREATE ROLE {role} LOGIN"))
        connection.execute(sa.text(f"ALTER DATABASE {url.database} OWNER TO {OWNER}"))
    admin.dispose()
    return Roles(url)


@pytest.fixture
def granted(roles: Roles) -> Roles:
    """The same, migrated by the owner, who then ran the grants."""
    owner = Database(roles.of(OWNER))
    migrate.upgrade(owner)
    owner.close()
    said = roles.psql(grants.script(database=roles.url.database or ""))
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
    return roles


@dataclass
class TwoRoles(Box):
    """A Box whose service and watch are the bot's, and whose worker has a connection of its own."""

    of_worker: Database = field(kw_only=True)

    def start(self) -> None:
        """A worker comes up beside the bot; the one before it is dead."""
        self.starts += 1
        with self.of_worker.transaction() as session:
            claims.end_all_others(session, "")
        self.watch = Watch(self.database, self.adapters)
        self.worker = make_worker(
            self.of_worker,
            self.adapters,
            url="never connected",
            process=f"test-{self.starts}",
            host="here",
            pool="default",
            concurrency=1,
            lasts_s=60,
        )
        self.worker.claim.join(self.clock.now())
        self.service = Service(self.database, self.adapters, self.watch, None, APPROVERS, FakeHarness())


@pytest.fixture
def box(granted: Roles) -> Iterator[TwoRoles]:
    """An installation of two processes, each with its role."""
    bot, worker = Database(granted.of(grants.BOT)), Database(granted.of(grants.WORKER))
    shelf, hypervisor, gates, places = FakeShelf(), FakeHypervisor(), FakeGates(), directory()
    adapters = Adapters(
        clock=(clock := FakeClock()),
        triggers={"fake": FakeTrigger()},
        shelf=shelf,
        hypervisor=hypervisor,
        runner=(runner := FakeRunner()),
        probe_runner=FakeProbeRunner(),
        secrets=(secrets := FakeSecrets()),
        gate_kinds=gates.kinds,
        directory=lambda: places,
    )
    made = TwoRoles(bot, clock, shelf, hypervisor, runner, secrets, gates, places, adapters, of_worker=worker)
    made.start()
    yield made
    bot.close()
    worker.close()


def ask_about_a_call(box: TwoRoles) -> str:
    """Up to the question about a call of an agent; returns its token."""
    box.shelf.runbook = with_agent()
    agents = FakeAgents(calls=(call("status", "systemctl", "status", "x"),), asks=frozenset({"status"}))
    box.adapters = replace(box.adapters, agents=agents)
    box.start()
    return box.until_approval()
