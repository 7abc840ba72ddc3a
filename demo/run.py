"""The demo's command: set the stage, let the alert fire, print one URL; with --auto press the buttons and judge it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import click

from demo import plays
from demo.stage import FOLDER, LIBVIRTD, Stage
from demo.world.faults import Fault
from demo.world.processes import Processes
from engine import wiring
from engine.domain.errors import SignalboxError, Unavailable
from engine.runtime.hypervisor import LibvirtHypervisor
from engine.settings import load

BEGUN = time.monotonic()


def say(text: str) -> None:
    """One line of progress."""
    click.echo(f"[{time.monotonic() - BEGUN:5.0f} s] {text}")


def _watch(stage: Stage) -> None:
    """Leave everything running until somebody presses Ctrl-C."""
    click.echo("\n  Open this page, read along and press the buttons:\n")
    click.secho(f"      {stage.url}\n", bold=True)
    click.echo(f"  What Signalbox itself shows: {stage.dashboard}\n  Ctrl-C ends the demo and stops everything.\n")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()


def _clear() -> None:
    """End what a killed demo left behind: its processes first (they could start VMs), then VMs, libvirtd, images."""
    stage = Stage(Fault.NONE, say)
    ended = Processes(stage.folder / "processes").sweep() + Processes(stage.folder / "world" / "processes").sweep()
    say(f"ended {len(ended)} processes")
    if (stage.home / "installation-id").exists():
        _libvirtd("start")  # VMs outlive the libvirtd that started them
        values = load({"SIGNALBOX_HOME": str(stage.home)})
        hypervisor = LibvirtHypervisor(values.libvirt, stage.step_images, wiring.owner(values))
        try:
            say(f"ended {len(hypervisor.sweep())} VMs")
        finally:
            hypervisor.close()
    _libvirtd("stop")
    shutil.rmtree(stage.step_images, ignore_errors=True)


def _libvirtd(verb: str) -> None:
    """Start or stop libvirtd as the demo does; `stop` ends only what the demo started. Raises Unavailable."""
    if os.geteuid() != 0:
        return  # a plain user's libvirt starts by itself
    command = [sys.executable, str(LIBVIRTD), verb, "--state", str(FOLDER / "libvirtd")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise Unavailable(f"libvirtd: {done.stdout}{done.stderr}".strip(), f"see {FOLDER / 'libvirtd'}")


@click.command()
@click.option("--auto", is_flag=True, help="Press the buttons, and exit 0 only when it ended as it should.")
@click.option(
    "--break", "fault", type=click.Choice([fault.value for fault in Fault]), default="none", help="What goes wrong."
)
@click.option("--agent", type=click.Choice(["replay"]), help="Agents diagnose and write the fix; models replay tapes.")
@click.option("--stop", is_flag=True, help="Stop what an earlier demo left behind.")
def main(auto: bool, fault: str, agent: str | None, stop: bool) -> None:
    """One real alert, from Alertmanager to a gated production fix."""
    try:
        if stop:
            _clear()
            return
        stage = Stage(Fault(fault), say, agents=agent is not None)
        with stage.set_up():
            if auto:
                plays.play(stage)
            else:
                _watch(stage)
        if left := stage.left_behind():
            raise plays.NotAsItShould(f"left behind: {', '.join(left)}")
    except (SignalboxError, plays.NotAsItShould) as error:
        remedy = getattr(error, "remedy", "")
        click.secho(f"\nFAILED: {error}" + (f"\n  -> {remedy}" if remedy else ""), fg="red", err=True)
        sys.exit(1)
    if auto:
        click.secho("\nIt ended as it should.", fg="green")
