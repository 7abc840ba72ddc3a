"""`signalbox vm ...`: which VMs of ours there are, the end of one, and what libvirt and QEMU said of it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from engine import wiring
from engine.commands.group import Commands
from engine.domain.errors import BadInput, Conflict, SignalboxError
from engine.domain.states import RunState
from engine.runtime import census, logs
from engine.runtime.census import Census, Vm
from engine.runtime.domain_xml import domain_name, sign_of
from engine.runtime.host import Host
from engine.runtime.session import NAME
from engine.settings import Settings, load
from engine.store import claims, models, runs
from engine.store.session import Session

MOST_LINES = 1000


@click.group("vm", cls=Commands)
def vm_group() -> None:
    """Look at the VMs of this installation, and end one."""


@contextlib.contextmanager
def _host(values: Settings) -> Iterator[Host]:
    host = Host(values.libvirt)
    try:
        yield host
    finally:
        host.close()


# -- list


@vm_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def vm_list(as_json: bool) -> None:
    """Every VM of this installation on this machine: at work or waiting, for which task and run, since when, whose.

    TASK is an attempt's id, or a gate's measurement. Domains of others are counted, never shown, never touched.
    """
    values = load()
    with _host(values) as host:
        taken = census.take(host, wiring.owner(values))
    click.echo(_as_json(taken) if as_json else "\n".join(_table(taken)))


def _as_json(taken: Census) -> str:
    vms = [
        {
            "task": vm.mark.task,
            "run": "" if vm.mark.waits else vm.mark.run,
            "what": _what(vm),
            "state": vm.state,
            "since": vm.mark.since or None,
            "memory_mb": vm.memory_mb,
            "process": vm.mark.process,
            "owner": vm.mark.owner,
            "domain": vm.name,
        }
        for vm in taken.vms
    ]
    return json.dumps({"vms": vms, "other_domains": taken.strangers}, indent=2)


def _table(taken: Census) -> Iterator[str]:
    rows = [("TASK", "RUN", "WHAT", "STATE", "FOR", "MEMORY", "WORKER")]
    for vm in taken.vms:
        run = "-" if vm.mark.waits else vm.mark.run
        memory = f"{vm.memory_mb} MB"
        rows.append((vm.mark.task, run, _what(vm), vm.state, _age(vm.mark.since), memory, vm.mark.process))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if taken.vms:
        for row in rows:
            yield "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
    total = sum(vm.memory_mb for vm in taken.vms)
    yield f"VMs of this installation: {len(taken.vms)} ({total} MB); domains of others, left alone: {taken.strangers}"


def _what(vm: Vm) -> str:
    if not vm.mark.waits:
        return "at work"
    return "is saved for clones" if vm.mark.task.startswith("template-") else "waits in the pool"


def _age(since: int) -> str:
    if not since:
        return "?"
    seconds = max(0, int(time.time()) - since)
    if seconds < 60:
        return f"{seconds}s"
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{seconds:02}s"


# -- kill


@dataclass(frozen=True, slots=True)
class Outlook:
    """What follows when a VM is destroyed. `certain`: nothing that may have been changed is left unknown."""

    certain: bool
    text: str


@vm_group.command("kill")
@click.argument("task")
@click.option("--yes", is_flag=True, help="Also where a change is cut off in the middle.")
def vm_kill(task: str, yes: bool) -> None:
    """Destroy the VM of TASK (see `vm list`; its first letters will do), and say what its run does next.

    Where that cuts a change off in the middle, or nobody knows, nothing is done without --yes: see what else there is,
    `signalbox kill-switch` or a decision in the incident's channel.
    """
    values = load()
    owner = wiring.owner(values)
    with _host(values) as host:
        vm = _meant(census.take(host, owner), task)
    outlook = _outlook(values, vm)
    if not outlook.certain and not yes:
        raise BadInput(f"{vm.mark.task} was left alone: {outlook.text}", "if you mean it: signalbox vm kill --yes ...")
    hypervisor = wiring.make_hypervisor(values)
    try:
        was_there = hypervisor.destroy(vm.mark.task)
    finally:
        hypervisor.close()
    click.echo(f"{vm.mark.task}: {'destroyed; libvirt knows it no more' if was_there else 'it had ended already'}")
    click.echo(outlook.text)


def _meant(taken: Census, task: str) -> Vm:
    """The one VM of ours that was meant. Raises BadInput."""
    found = [vm for vm in taken.vms if task and (vm.mark.task.startswith(task) or vm.name == task)]
    exact = [vm for vm in found if vm.mark.task == task]
    if len(exact or found) == 1:
        return (exact or found)[0]
    told = logs.printable(task[:80])
    if found:
        raise BadInput(f"{len(found)} VMs have a task that begins with {told!r}", "give more of it: signalbox vm list")
    raise BadInput(f"no VM of this installation works for {told!r}", "signalbox vm list shows them all")


def _outlook(values: Settings, vm: Vm) -> Outlook:
    if vm.mark.waits:
        return Outlook(True, "It had no task; its worker makes another when it needs one.")
    try:
        with wiring.reading(values) as session:
            return _of_run(session, vm)
    except SignalboxError as error:
        return Outlook(False, f"What its run does next is not known, for the database cannot be read ({error}).")


def _of_run(session: Session, vm: Vm) -> Outlook:
    try:
        run = runs.get(session, vm.mark.run)
    except Conflict:
        text = "The database knows no such run: is it the one of its worker (SIGNALBOX_HOME, SIGNALBOX_DATABASE_URL)?"
        return Outlook(False, text)
    where = f"INC-{run.incident_number}, {run.leg}"
    attempt = runs.started_attempt(session, run.id)
    if attempt is None or attempt.id != vm.mark.task:
        if run.state is RunState.JUDGING:
            return Outlook(
                True, f"{where}: the gate lacks this measurement, so it does not hold; the run halts and asks."
            )
        return Outlook(True, f"{where}: the run does not wait for it (it is {run.state}).")
    return _of_attempt(session, vm, attempt, where)


def _of_attempt(session: Session, vm: Vm, attempt: models.Attempt, where: str) -> Outlook:
    if attempt.changes:
        return Outlook(
            False,
            f"{where} changes {attempt.target}: its outcome is unknown when it is cut off; the run halts and asks.",
        )
    if vm.mark.process not in {worker.process for worker in claims.living(session)}:
        then = "is tried again" if attempt.idempotent else "is not tried again by itself: the run halts and asks"
        return Outlook(True, f"{where}: its worker is gone; the step {then} when another takes the run up.")
    return Outlook(True, f"{where}: the attempt fails; the run halts and asks whether to retry.")


# -- logs


@vm_group.command("logs")
@click.argument("task")
@click.option("--lines", type=click.IntRange(1, MOST_LINES), default=40, show_default=True, help="How many, at most.")
def vm_logs(task: str, lines: int) -> None:
    """Print the end of libvirt's log of the VM of TASK, and where it lies: what QEMU said, and how it was started.

    TASK may be gone; what waited in the pool is logged under the name that `vm list` shows meanwhile. What a step
    printed is not here but with its attempt: in the incident's channel and on the dashboard.
    """
    values = load()
    where = logs.folder(values.libvirt)
    if where is None:
        raise BadInput(
            f"the logs of {values.libvirt} lie on that machine", "there: /var/log/libvirt/qemu/signalbox-*.log"
        )
    file = _log_of(values, where, task)
    click.echo(f"{file}:", err=True)
    for line in logs.tail(file, lines):
        click.echo(line)


def _log_of(values: Settings, where: Path, task: str) -> Path:
    """The log of a VM that is there, or was. Raises BadInput for what cannot be a task, and for a VM of others."""
    try:
        with _host(values) as host:
            return where / f"{_meant(census.take(host, wiring.owner(values)), task).name}.log"
    except SignalboxError as error:
        ended = where / f"{domain_name(task)}.log"
        if not NAME.fullmatch(task) or not logs.is_signed(ended, sign_of(wiring.owner(values))):
            why = f"{error}; nor is there a log of one that is gone: {where}/{domain_name('TASK')}.log"
            raise BadInput(why, f"{error.remedy}; logs are kept for a week, in system mode for root only") from None
        return ended
