"""`signalbox doctor`: what is misconfigured, found before an incident does; each problem with its remedy."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import requests

from engine import wiring
from engine.agents import checkup
from engine.coordination.activation import must_be_activated
from engine.domain import image_names
from engine.domain.errors import BadInput, Conflict, SignalboxError, Unavailable
from engine.domain.incident import SwitchView
from engine.domain.runbook import ScriptStep
from engine.evidence import anchor
from engine.evidence.key import fingerprint
from engine.orchestration.adapters import SystemClock
from engine.orchestration.journal import Journal
from engine.runbooks.shelf import Shelf
from engine.runtime import confinement, gallery, image
from engine.runtime.hypervisor import LibvirtHypervisor
from engine.secrets.broker import Broker
from engine.secrets.connection import VaultConnection
from engine.secrets.embedded import EmbeddedBao
from engine.settings import Settings
from engine.store import chain, claims, migrate, runs, switch
from engine.store.session import Database, Session

AT_MOST = 5
""" So many findings of one kind are told. """


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one look found. `remedy` says what to do when it is not well."""

    part: str
    well: bool
    text: str
    remedy: str = ""


Look = Callable[[], Iterator[Finding]]


def examine(settings: Settings, more: dict[str, Look]) -> Iterator[Finding]:
    """Look at every part in turn; a look that fails is a finding, never a crash of the doctor."""
    looks: dict[str, Look] = {
        "configuration": lambda: _configuration(settings),
        "database": lambda: _database(settings),
        "runbooks": lambda: _runbooks(settings),
        "models": lambda: _models(settings),
        "libvirt": lambda: _libvirt(settings),
        "secrets": lambda: _secrets(settings),
        "evidence": lambda: _evidence(settings),
        "prometheus": lambda: _prometheus(settings),
        **more,
    }
    for part, look in looks.items():
        try:
            yield from look()
        except SignalboxError as error:
            yield Finding(part=part, well=False, text=str(error), remedy=error.remedy)


def _configuration(settings: Settings) -> Iterator[Finding]:
    home = wiring.make_home(settings)
    yield Finding(part="configuration", well=True, text=f"state in {home.absolute()}")
    if not settings.approvers:
        yield Finding(
            part="configuration",
            well=False,
            text="nobody may approve or decide",
            remedy="set SIGNALBOX_APPROVERS to Slack user ids",
        )
    if not wiring.triggers(settings):
        yield Finding(
            part="configuration",
            well=False,
            text="no alert source is configured",
            remedy="set SIGNALBOX_ALERTMANAGER_TOKEN_FILE",
        )
    sites = wiring.directory(settings).sites
    ends = [address for site in sites.values() for address in site.ports.values()]
    if len(set(ends)) != len(ends):
        yield Finding(
            part="configuration",
            well=False,
            text="two names of the directory lead to one address, so lint cannot keep their targets apart",
            remedy=f"give each its own address in {settings.sites}",
        )
    yield Finding(
        part="configuration",
        well=bool(sites),
        text=f"{len(sites)} sites in {settings.sites}",
        remedy="" if sites else "list the hosts that runbooks name: see README, Sites",
    )


def _database(settings: Settings) -> Iterator[Finding]:
    with contextlib.closing(Database(settings.database)) as database:
        have, want = migrate.current(database), migrate.newest()
        yield Finding(
            part="database",
            well=have == want,
            text=f"{database.dialect} at revision {have or 'none'}, this release wants {want}",
            remedy="" if have == want else "signalbox migrate",
        )
        if have != want:
            return
        with database.reading() as session:
            stands = switch.read(session)
            living = Counter(worker.pool for worker in claims.living(session))
            waiting = {run.pool for run in runs.queued(session)}
            dormant = tuple(_not_activated(settings, session))
        yield _kill_switch(stands)
        if database.is_shared:  # otherwise one process does everything
            yield from _workers(settings, living, waiting)
        yield from dormant


def _kill_switch(stands: SwitchView) -> Finding:
    who = (stands.by.name or stands.by.id) if stands.by else "somebody"
    return Finding(
        part="kill-switch",
        well=not stands.on,
        text=f"on, thrown by {who}, so nothing starts: {stands.reason or 'no reason given'}" if stands.on else "off",
        remedy="signalbox kill-switch off, once the reason is gone" if stands.on else "",
    )


def _not_activated(settings: Settings, session: Session) -> Iterator[Finding]:
    """Runbooks that read well and that no alert will start."""
    if settings.activation == "off":
        yield Finding(part="runbooks", well=True, text="SIGNALBOX_ACTIVATION is off: each starts as it is on disk")
        return
    shelf = Shelf(settings.runbooks)
    for name in shelf.valid():
        try:
            must_be_activated(session, shelf.read(name))
        except SignalboxError as error:
            yield Finding(part="runbooks", well=False, text=str(error), remedy=error.remedy)


def _workers(settings: Settings, living: Counter[str], waiting: Collection[str]) -> Iterator[Finding]:
    """Each pool that a runbook or a run names needs somebody. `living`: pool -> workers alive."""
    shelf = Shelf(settings.runbooks)
    wanted = {*waiting, *(shelf.read(name).runbook.pool for name in shelf.valid())}
    for pool in sorted(wanted | set(living)):
        number = living[pool]
        yield Finding(
            part="workers",
            well=number > 0,
            text=f"pool {pool}: {number or 'no'} worker{'' if number == 1 else 's'} alive",
            remedy="" if number else f"signalbox worker --pool {pool}, on a machine with libvirt",
        )


def _runbooks(settings: Settings) -> Iterator[Finding]:
    there = gallery.names(settings.images)
    shelf = Shelf(settings.runbooks, there)
    if not shelf.names():
        yield Finding(part="runbooks", well=False, text=f"none in {settings.runbooks}", remedy="set SIGNALBOX_RUNBOOKS")
    known = wiring.directory(settings).sites
    for name in shelf.names():
        try:
            runbook = shelf.read(name).runbook
        except BadInput as error:
            yield Finding(part="runbooks", well=False, text=f"{name}: {error}", remedy=f"signalbox runbook lint {name}")
            continue
        missing = sorted({target.host for target in runbook.targets.values()} - known.keys())
        yield Finding(
            part="runbooks",
            well=not missing,
            text=f"{name} is valid" + (f", but names unknown hosts: {', '.join(missing)}" if missing else ""),
            remedy="add them to the file SIGNALBOX_SITES" if missing else "",
        )
        images = {step.image for step in runbook.steps if isinstance(step, ScriptStep)}
        for missed in sorted(images - {image_names.BASE, *there}):
            text = f"{name} boots {missed}, which is not built here"
            yield Finding(part="image", well=False, text=text, remedy=image_names.how_to_get(missed))


def _models(settings: Settings) -> Iterator[Finding]:
    shelf = Shelf(settings.runbooks)
    steps = [
        checkup.Wanted(runbook=name, step=step.id, rule=step.agent)
        for name in shelf.valid()
        for step in shelf.read(name).runbook.steps
        if isinstance(step, ScriptStep) and step.agent is not None
    ]
    for found in checkup.examine(wiring.models(settings), steps):
        yield Finding(part=found.part, well=found.well, text=found.text, remedy=found.remedy)


def _libvirt(settings: Settings) -> Iterator[Finding]:
    hypervisor = wiring.make_hypervisor(settings, warm=settings.warm_vms, suffix="-doctor")
    held: list[Finding] = []
    try:
        yield Finding(part="image", well=True, text=f"step {hypervisor.image_digest('step')[:19]}")
        files = image.parts(settings.images, "step")

        def look(uuid: str, xml: str) -> None:
            found = confinement.judge(xml, confinement.process_of(uuid), files)
            held.extend(Finding(part=one.part, well=one.well, text=one.text, remedy=one.remedy) for one in found)

        hypervisor.reachable()
        if why := hypervisor.shortage():
            raise Unavailable(why, "there is no room for a trial VM: run it again when other steps have ended")
        try:
            seconds = hypervisor.trial_boot(look=look)
        except Unavailable as error:
            if settings.accel != "kvm":
                raise
            yield _no_kvm(error)
            return
        yield Finding(part="libvirt", well=True, text=f"{hypervisor.describe()}; a trial VM worked in {seconds:.1f} s")
        yield acceleration(settings.accel, hypervisor.emulated())
        yield from held
        yield _memory(hypervisor, settings)
        yield _processors(hypervisor, settings)
    finally:
        hypervisor.close()


def _no_kvm(error: Unavailable) -> Finding:
    return Finding(
        part="acceleration",
        well=False,
        text=f"SIGNALBOX_ACCEL=kvm, and no VM boots under KVM: {error}",
        remedy="see that /dev/kvm is there and works (the BIOS, nested virtualisation); no step runs before it does",
    )


def acceleration(asked: str, emulated: str) -> Finding:
    """Emulation that somebody asked for is well; one that we fell back to is not. `emulated`: why, empty under KVM."""
    if not emulated:
        return Finding(part="acceleration", well=True, text=f"KVM (SIGNALBOX_ACCEL={asked})")
    text = f"VMs run under software emulation, which is slow, and which QEMU calls no security boundary: {emulated}"
    return Finding(
        part="acceleration",
        well=asked == "tcg",
        text=text,
        remedy=""
        if asked == "tcg"
        else "in production mend KVM and set SIGNALBOX_ACCEL=kvm, which never falls back; "
        "to accept emulation set SIGNALBOX_ACCEL=tcg",
    )


def _memory(hypervisor: LibvirtHypervisor, settings: Settings) -> Finding:
    """Every run that is driven has one VM at a time; where fewer fit, a step may have to wait for memory in vain."""
    room = hypervisor.room()
    enough = room >= settings.workers and not hypervisor.shortage()
    return Finding(
        part="memory",
        well=enough,
        text=f"{hypervisor.describe_memory()}; room for {room} at once, {settings.workers} runs are driven at once"
        + (f"; short now: {hypervisor.shortage()}" if hypervisor.shortage() else ""),
        remedy="" if enough else "raise SIGNALBOX_VM_MEMORY_MB, lower SIGNALBOX_WORKERS, or add memory",
    )


def _processors(hypervisor: LibvirtHypervisor, settings: Settings) -> Finding:
    """Where libvirt cannot hold a VM to `cpu_percent`, its step goes on without: what it may change stays the same."""
    shelf = Shelf(settings.runbooks)
    named = sorted(name for name in shelf.valid() if any(map(_has_cpu_limit, shelf.read(name).runbook.steps)))
    holds = hypervisor.holds_cpu
    text = "VMs are held to their cpu_percent" if holds else "VMs cannot be held to cpu_percent here: it has no effect"
    return Finding(
        part="processors",
        well=holds or not named,
        text=text + (f"; named by {', '.join(named)}" if named else ""),
        remedy="" if holds or not named else "use qemu:///system, on a machine with the cpu cgroup, or name vcpus only",
    )


def _has_cpu_limit(step: object) -> bool:
    return isinstance(step, ScriptStep) and step.limits.cpu_percent > 0


@contextlib.contextmanager
def _vault(settings: Settings) -> Iterator[VaultConnection]:
    """The Vault that a running Signalbox uses, or the one that it would start."""
    try:
        with wiring.only_process(settings), wiring.vault(settings) as connection:
            yield connection
    except Conflict:
        yield EmbeddedBao(wiring.make_home(settings) / "openbao").connection()


def _secrets(settings: Settings) -> Iterator[Finding]:
    if not settings.vault_addr:
        yield Finding(
            part="secrets",
            well=True,
            text="embedded OpenBao: for trying out, its key and its admin rights lie with the same user",
        )
    database = Database(settings.database)
    try:
        with _vault(settings) as connection:
            clock = SystemClock()
            broker = Broker(connection, Journal(database, clock), clock)
            for finding in broker.check():
                yield Finding(
                    part="secrets", well=finding.ok, text=f"{finding.name}: {finding.detail}", remedy=finding.remedy
                )
            broker.shut_down()
    finally:
        database.close()


def _evidence(settings: Settings) -> Iterator[Finding]:
    """The anchors file: whether it can be written, whether all of it is ours, whether the chains are those it saw."""
    path = settings.anchors_file
    public = wiring.anchor_key(settings).public_key()
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        yield Finding(part="evidence", well=False, text=f"cannot write {path}", remedy="mend its permissions")
        return
    try:
        known = anchor.look(path, keys={fingerprint(public): public}).known
    except FileNotFoundError:
        yield Finding(
            part="evidence", well=True, text=f"nothing is anchored yet; {path} is made when an incident opens"
        )
        return
    with wiring.reading(settings) as session:
        wrong = (*known.wrong, *anchor.contradictions(known.heads, chain.heads(session)))
    for what in wrong[:AT_MOST]:
        remedy = "find out who can write the database and this file; `signalbox evidence export` and `verify` say more"
        yield Finding(part="evidence", well=False, text=f"{path}: {what}", remedy=remedy)
    for what in known.told[:AT_MOST]:
        yield Finding(part="evidence", well=True, text=f"{path}: {what}")
    if not wrong:
        yield Finding(part="evidence", well=True, text=f"{len(known.heads)} chains anchored, last on {known.last_at}")


def _prometheus(settings: Settings) -> Iterator[Finding]:
    if not settings.prometheus_url:
        yield Finding(
            part="prometheus",
            well=False,
            text="not configured: gates that ask it are errors, and halt",
            remedy="set SIGNALBOX_PROMETHEUS_URL",
        )
        return
    try:
        answer = requests.get(f"{settings.prometheus_url}/-/ready", timeout=5, allow_redirects=False)
    except requests.RequestException as error:
        yield Finding(
            part="prometheus", well=False, text=f"does not answer ({type(error).__name__})", remedy="start it"
        )
        return
    yield Finding(part="prometheus", well=answer.ok, text=f"answers {answer.status_code}")
