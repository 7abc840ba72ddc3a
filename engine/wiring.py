"""The one place where real adapters are chosen and joined. Opened in order, closed in reverse."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engine import gates
from engine.agents.gateway import Gateway
from engine.agents.models import Models, load_models
from engine.agents.proxy import ModelProxy
from engine.agents.work import AgentWork
from engine.domain.directory import Address, Directory
from engine.domain.errors import BadInput, Conflict
from engine.domain.harness import NoteDraft
from engine.domain.incident import IncidentView
from engine.domain.journey import Journey
from engine.domain.ports import Trigger
from engine.domain.runners import Agents
from engine.evidence import key
from engine.evidence.anchor import AnchorFile
from engine.gates import asking
from engine.harness.patch import make_patch, next_number
from engine.orchestration.adapters import Adapters, SystemClock
from engine.orchestration.anchoring import Anchoring
from engine.orchestration.carriers import Carrier, Local
from engine.orchestration.claim import Claim
from engine.orchestration.driver import Driver
from engine.orchestration.journal import Journal
from engine.orchestration.performing import Running
from engine.orchestration.reaper import Reaper
from engine.orchestration.watch import Watch
from engine.orchestration.worker import Worker
from engine.runbooks.shelf import Shelf
from engine.runtime import gallery
from engine.runtime.hypervisor import LibvirtHypervisor
from engine.runtime.runners.by_tool import RunnerByTool
from engine.runtime.runners.probe import SshProbeRunner
from engine.secrets.broker import Broker
from engine.secrets.connection import VaultConnection, connect_to
from engine.secrets.embedded import EmbeddedBao
from engine.secrets.nothing import Nothing
from engine.secrets.redact import Redactor
from engine.service import People, Service
from engine.settings import PREFIX, Settings, load_directory
from engine.store import migrate
from engine.store.session import Database, Session
from engine.triggers.alertmanager import AlertmanagerTrigger


@dataclass(frozen=True, slots=True)
class FileHarness:
    """Proposes rules for one agents.md."""

    agents_md: Path

    def number(self, at_least: int) -> int:
        """The number for a new note."""
        return next_number(self.text(), at_least)

    def patch(self, note: NoteDraft, incident: IncidentView, journey: Journey) -> str:
        """The patch of a note."""
        return make_patch(note, incident, journey=journey, agents_md=self.text())

    def text(self) -> str:
        """The file as it is now; empty when it is not there."""
        return self.agents_md.read_bytes().decode() if self.agents_md.exists() else ""  # line endings as they are


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """One running Signalbox: what the process's entry point works with."""

    settings: Settings
    database: Database
    adapters: Adapters
    watch: Watch
    worker: Worker | None
    service: Service
    hypervisor: LibvirtHypervisor


def make_home(settings: Settings) -> Path:
    """The state's folder, ours alone. Raises BadInput for one that is open to others: it is not ours to close."""
    home = settings.home
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    if home.stat().st_mode & 0o077:
        raise BadInput(
            f"{home.absolute()} is open to other users", f"chmod 700 {home}, or set SIGNALBOX_HOME elsewhere"
        )
    return home


def owner(settings: Settings) -> str:
    """The mark that our VMs carry: one installation never touches another's."""
    path = make_home(settings) / "installation-id"
    if not path.exists():
        path.write_text(secrets.token_hex(8))
    return path.read_text().strip()


@contextlib.contextmanager
def known_database(settings: Settings) -> Iterator[Database]:
    """The database as this release knows it; raises BadInput when it is not there yet."""
    make_home(settings)
    database = Database(settings.database)
    try:
        migrate.must_be_newest(database)
        yield database
    finally:
        database.close()


@contextlib.contextmanager
def reading(settings: Settings) -> Iterator[Session]:
    """One look at it; raises BadInput when it is not there yet."""
    with known_database(settings) as database, database.reading(one_moment=True) as session:
        yield session


@contextlib.contextmanager
def only_process(settings: Settings) -> Iterator[None]:
    """Hold the lock of the installation: on SQLite one process does everything. Raises Conflict."""
    descriptor = os.open(make_home(settings) / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise Conflict(f"another Signalbox runs on {settings.home}", "stop it, or set SIGNALBOX_HOME") from None
    try:
        yield
    finally:
        os.close(descriptor)


def anchor_key(settings: Settings) -> Ed25519PrivateKey:
    """The key that signs anchors; made in our home when none is given."""
    if settings.anchor_key is not None:
        return key.from_pem(settings.anchor_key.get_secret_value(), f"{PREFIX}ANCHOR_KEY")
    return key.kept_in(make_home(settings) / "anchor.key")


def triggers(settings: Settings) -> Mapping[str, Trigger]:
    """The configured sources; one without its credential does not exist."""
    found: dict[str, Trigger] = {}
    if settings.alertmanager_token is not None:
        tokens = tuple(settings.alertmanager_token.get_secret_value().split())
        found["alertmanager"] = AlertmanagerTrigger(tokens)
    return found


DEFAULT_PORTS = {"https": 443, "http": 80, "qemu+tls": 16514, "qemu+tcp": 16509, "qemu+ssh": 22}
POSTGRES_PORT = 5432


def forbidden(settings: Settings) -> tuple[Address, ...]:
    """Signalbox's own ends, which no grant reaches: web, database, Vault, Slack, libvirt, Prometheus (gates measure
    there), models. A web server that listens on every address is known by loopback and by this machine's name."""
    urls = [f"http://{settings.listen}", settings.vault_addr, settings.prometheus_url, settings.slack_api_url]
    if settings.listen.startswith("0.0.0.0:"):
        urls.append(f"http://{socket.gethostname()}:{settings.listen.rpartition(':')[2]}")
    if not settings.database.startswith("sqlite"):
        urls.append(settings.database)
    ends = []
    for url in filter(None, (*urls, settings.libvirt)):
        try:
            parsed = sa.engine.make_url(url)
        except sa.exc.ArgumentError:
            continue
        if not parsed.host and parsed.drivername.startswith("qemu"):
            continue  # a local libvirt answers on a unix socket
        port = parsed.port or DEFAULT_PORTS.get(parsed.drivername, POSTGRES_PORT)
        ends.append(Address(host=parsed.host or "127.0.0.1", port=port))
    return (*ends, *(model.address for model in models(settings).by_name.values()))


def models(settings: Settings) -> Models:
    """The models of agent steps as they are on disk now."""
    return load_models(settings.models)


def agents(settings: Settings, proxy: ModelProxy, gateway: Gateway) -> Agents | None:
    """Who works agents' steps here; None where no models are configured."""
    if not settings.models.exists():
        return None
    harness = FileHarness(settings.agents_md)
    return AgentWork(
        proxy, harness.text, lambda query, names: asking.ask(settings.prometheus_url, query, names), gateway
    )


def directory(settings: Settings, more: tuple[Address, ...] = ()) -> Directory:
    """The directory of sites as it is on disk now. `more`: ends of ours that only this process knows."""
    return load_directory(settings.sites, (*forbidden(settings), *more))


def external_vault(settings: Settings, secret_id: str = "") -> VaultConnection:
    """The configured Vault or OpenBao; without a secret id for an administrator, who brings a token."""
    return connect_to(
        settings.vault_addr,
        role_id=settings.vault_role_id,
        secret_id=secret_id,
        ca=settings.vault_ca,
        namespace=settings.vault_namespace,
    )


def known_shelf(settings: Settings) -> Shelf:
    """The runbooks, held to everything that this machine knows: its images, and where names lead."""
    return Shelf(settings.runbooks, gallery.names(settings.images), directory(settings))


@contextlib.contextmanager
def vault(settings: Settings) -> Iterator[VaultConnection]:
    """An existing Vault or OpenBao, or an embedded one that lives as long as this block."""
    if settings.vault_addr:
        if settings.vault_secret_id is None:
            raise BadInput(
                "SIGNALBOX_VAULT_ADDR is set, its AppRole secret is not", "set SIGNALBOX_VAULT_SECRET_ID_FILE"
            )
        yield external_vault(settings, settings.vault_secret_id.get_secret_value())
        return
    bao = EmbeddedBao(make_home(settings) / "openbao")
    bao.start()
    try:
        yield bao.connection()
    finally:
        bao.stop()


@contextlib.contextmanager
def installation(settings: Settings, *, drives: bool = True) -> Iterator[Installation]:
    """Join everything. Nothing is started: whoever enters starts and stops the watch and the worker.

    Without `drives` there is no worker: runs are driven elsewhere. Raises BadInput, Unavailable.
    """
    with contextlib.ExitStack() as stack:
        database = Database(settings.database, patience_s=max(2, settings.dead_after_s / 2))
        stack.callback(database.close)
        migrate.bring_up_to_date(database)
        clock = SystemClock()
        stack.callback(clock.stopping.set)
        given = stack.enter_context(_secrets(settings, database, clock)) if drives else Nothing()
        for value in (
            settings.slack_bot_token,
            settings.slack_signing_secret,
            settings.alertmanager_token,
            settings.api_token,
            settings.anchor_key,
        ):
            if value is not None:
                given.redactor().learn("configuration", value.get_secret_value())
        if drives:
            _learn_keys(settings, given.redactor())
        proxy = ModelProxy(lambda: models(settings))
        gateway = stack.enter_context(contextlib.closing(Gateway())) if drives else None
        more = (gateway.end,) if gateway is not None else ()
        process = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(3)}"
        hypervisor = make_hypervisor(settings, process, warm=settings.warm_vms if drives else 0)
        stack.callback(hypervisor.close)
        adapters = Adapters(
            clock=clock,
            triggers=triggers(settings),
            shelf=Shelf(settings.runbooks),
            hypervisor=hypervisor,
            runner=RunnerByTool(),
            probe_runner=SshProbeRunner(),
            secrets=given,
            gate_kinds=lambda known: gates.kinds(known, settings.prometheus_url),
            directory=lambda: directory(settings, (*proxy.ends, *more)),
            agents=agents(settings, proxy, gateway) if gateway is not None else None,
            only_activated=settings.activation == "required",
        )
        anchor = AnchorFile(settings.anchors_file, anchor_key(settings))
        watch = Watch(database, adapters, Anchoring(database, anchor, clock, settings.anchor_every_s))
        worker = (
            make_worker(
                database,
                adapters,
                url=settings.database,
                process=process,
                host=owner(settings),
                pool=settings.pool,
                concurrency=settings.workers,
                lasts_s=settings.dead_after_s,
            )
            if drives
            else None
        )
        people = People(approvers=settings.approvers)
        service = Service(database, adapters, watch, worker, people, FileHarness(settings.agents_md))
        yield Installation(
            settings=settings,
            database=database,
            adapters=adapters,
            watch=watch,
            worker=worker,
            service=service,
            hypervisor=hypervisor,
        )


def make_hypervisor(
    settings: Settings, process: str = "nobody", *, warm: int = 0, suffix: str = ""
) -> LibvirtHypervisor:
    """The hypervisor in force. `suffix` sets its VMs apart from those of the installation; they boot, so that libvirt
    ends them with the connection: no sweep looks for that mark."""
    return LibvirtHypervisor(
        settings.libvirt,
        settings.images,
        owner(settings) + suffix,
        settings.accel,
        process,
        warm=warm,
        memory_mb=settings.vm_memory_mb,
        templates=settings.home.absolute() / "templates" if settings.clones == "auto" and not suffix else None,
    )


@contextlib.contextmanager
def _secrets(settings: Settings, database: Database, clock: SystemClock) -> Iterator[Broker]:
    with vault(settings) as connection:
        broker = Broker(connection, Journal(database, clock), clock)
        try:
            yield broker
        finally:
            broker.shut_down()


def _learn_keys(settings: Settings, redactor: Redactor) -> None:
    """Keys of models never leave the proxy; should one lie where a step finds it, it is masked like any secret."""
    for model in models(settings).by_name.values():
        with contextlib.suppress(BadInput):  # one without its key opens no door: the doctor says so
            if key_now := model.key():
                redactor.learn("configuration", key_now)


def make_worker(
    database: Database,
    adapters: Adapters,
    *,
    url: str,
    process: str,
    host: str,
    pool: str,
    concurrency: int,
    lasts_s: float,
) -> Worker:
    """A worker with the carrier that its database asks for."""
    claim = Claim(database, process, host, pool, concurrency, lasts_s)

    def carrier(drive: Callable[[str], None]) -> Carrier:
        if not database.is_shared:
            return Local(database, concurrency, drive)
        fleet: Carrier = _fleet().Fleet(url, pool, concurrency, process, drive)
        return fleet

    driver = Driver(database, adapters, Running(adapters), claim)
    return Worker(database, adapters, claim, driver, Reaper(database, adapters, claim), carrier)


def _fleet() -> ModuleType:
    """Procrastinate comes with the extra `postgres`: who has SQLite only does not need it."""
    return importlib.import_module("engine.orchestration.fleet")
