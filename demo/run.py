"""The demo's command: set the stage, let the alert fire, print one URL; with --auto press the buttons and judge it."""

from __future__ import annotations

import signal
import sys
import threading
import time

import click

from demo import plays
from demo.stage import FOLDER, Stage
from demo.world.faults import Fault
from demo.world.processes import Processes
from engine.domain.errors import SignalboxError

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


@click.command()
@click.option("--auto", is_flag=True, help="Press the buttons, and exit 0 only when it ended as it should.")
@click.option(
    "--break", "fault", type=click.Choice([fault.value for fault in Fault]), default="none", help="What goes wrong."
)
@click.option("--stop", is_flag=True, help="Stop what an earlier demo left behind.")
def main(auto: bool, fault: str, stop: bool) -> None:
    """One real alert, from Alertmanager to a gated production fix."""
    if stop:
        ended = Processes(FOLDER / "processes").sweep() + Processes(FOLDER / "world" / "processes").sweep()
        say(f"ended {len(ended)} processes")
        return
    try:
        stage = Stage(Fault(fault), say)
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
