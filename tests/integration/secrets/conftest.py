"""A real embedded OpenBao for these tests, a journal that remembers, and an administrator."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine.domain.runbook import SecretRef
from engine.secrets.admin import Administrator
from engine.secrets.broker import Broker, Grant
from engine.secrets.embedded import EmbeddedBao
from engine.secrets.policy import compile_policy
from engine.secrets.vault import Token, Vault

RUNBOOK = "disk-full"
VALUE = "planted-Zr81kQ49dXbB72LmVw"
REF = SecretRef(name="key", engine="kv", path="kv/data/checkout/staging/key", fields=("value",))
PAIR = SecretRef(name="db", engine="kv", path="kv/data/checkout/db", fields=("user", "password"))


class QuickClock:
    """Real time, short sleeps; `ahead_s` moves it on."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead_s)

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, 0.05))


@dataclass
class Journal:
    """Remembers every act in order; fails when told to."""

    acts: list[tuple[str, str]] = field(default_factory=list)
    fails_at: str = ""

    def _act(self, kind: str, what: str) -> None:
        if kind == self.fails_at:
            raise OSError("the database is gone")
        self.acts.append((kind, what))

    def minting(self, *, run_id: str, attempt_id: str, policy: str, paths: Collection[str]) -> None:
        self._act("minting", policy)

    def minted(self, *, run_id: str, attempt_id: str, kind: str, accessor: str) -> None:
        self._act(f"minted {kind}", accessor)

    def read(self, *, run_id: str, attempt_id: str, name: str, path: str, request_id: str) -> None:
        self._act("read", request_id)

    def revoked(self, *, accessor: str) -> None:
        self._act("revoked", accessor)

    def revoke_failed(self, *, accessor: str, reason: str) -> None:
        self._act("revoke_failed", accessor)

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.acts]

    def of(self, kind: str) -> list[str]:
        return [what for act, what in self.acts if act == kind]


@dataclass
class World:
    """What a test works with."""

    bao: EmbeddedBao
    clock: QuickClock
    journal: Journal
    broker: Broker
    tokens: list[Token]

    def admin(self) -> Administrator:
        return Administrator(self.bao.connection(), self.clock, password=self.bao.admin_password())

    def write(self, path: str, body: dict[str, object]) -> None:
        """As the administrator, anywhere."""
        with Vault(self.bao.connection(), self.clock) as vault:
            login = vault.login_password("admin", self.bao.admin_password())
            vault.write(login.token, path, body)
            vault.revoke_self(login.token)

    def apply(self, *refs: SecretRef) -> None:
        policy = compile_policy(RUNBOOK, refs)
        self.write(f"sys/policies/acl/{policy.name}", {"policy": policy.text})

    def open(self, *refs: SecretRef, run: str = "run-1", attempt: str = "attempt-1") -> Grant:
        return self.broker.open(
            runbook=RUNBOOK, run_id=run, leg="staging:rehearse", attempt_id=attempt, refs=refs, timeout_s=60
        )

    def new_broker(self) -> Broker:
        """As another process would make it."""
        return Broker(self.bao.connection(), self.journal, self.clock)

    def works(self, token: Token, path: str = REF.path) -> bool:
        """Whether a token can read a path, tried by using it."""
        with Vault(self.bao.connection(), self.clock) as vault:
            try:
                vault.read(token.token, path)
            except Exception:  # noqa: BLE001  # any refusal is the answer
                return False
            return True


@pytest.fixture(scope="session")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBao]:
    """One OpenBao for all tests that leave it as they found it."""
    found = EmbeddedBao(tmp_path_factory.mktemp("s") / "openbao")
    found.start()
    yield found
    found.stop()


@pytest.fixture
def make_world(monkeypatch: pytest.MonkeyPatch) -> Callable[[EmbeddedBao], World]:
    """A broker at an OpenBao with the two secrets and their policies, which remembers the tokens it mints."""

    def make(bao: EmbeddedBao) -> World:
        bao.start()
        clock, journal, tokens = QuickClock(), Journal(), list[Token]()
        really_mint = Vault.mint

        def mint(vault: Vault, token: str, role: str, body: dict[str, object]) -> Token:
            tokens.append(really_mint(vault, token, role, body))
            return tokens[-1]

        monkeypatch.setattr(Vault, "mint", mint)
        made = World(bao, clock, journal, Broker(bao.connection(), journal, clock), tokens)
        with made.admin() as admin:
            admin.put(REF.path, {"value": VALUE})
            admin.put(PAIR.path, {"user": "alice-of-db", "password": "p4$$-w\"rd'x"})
        made.apply(REF)
        made.apply(REF, PAIR)
        return made

    return make


@pytest.fixture
def world(bao: EmbeddedBao, make_world: Callable[[EmbeddedBao], World]) -> Iterator[World]:
    """A world on the shared OpenBao; whatever the test left alive is buried."""
    made = make_world(bao)
    yield made
    made.journal.fails_at = ""
    made.broker.shut_down()


@pytest.fixture
def own_bao(tmp_path: Path) -> Iterator[EmbeddedBao]:
    """An OpenBao for one test that harms it."""
    found = EmbeddedBao(tmp_path / "openbao")
    yield found
    found.stop()
