"""`signalbox agent`: how good an agent is at its step. Added to the command line by `engine.cli`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from engine.commands.group import Commands
from engine.domain.errors import BadInput
from engine.settings import load


@click.group("agent", cls=Commands)
def agent_group() -> None:
    """AI agents in steps."""


@agent_group.command("eval")
@click.argument("step")
@click.option("--replay", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Tapes: SITUATION.yaml.")
@click.option("--only", multiple=True, metavar="SITUATION", help="Only this one; may be given several times.")
@click.option("--times", type=click.IntRange(1, 100), default=1, help="Try each situation so many times.")
@click.option("--at-least", type=click.IntRange(0, 100), default=100, help="Per cent that must pass; 100 by default.")
@click.option("-v", "--verbose", is_flag=True, help="Print what the agent said and did.")
def eval_command(
    step: str, replay: Path | None, only: tuple[str, ...], times: int, at_least: int, verbose: bool
) -> None:
    """Try an agent's STEP (or RUNBOOK/STEP) in the situations recorded for it, NAME/evals/STEP/*.yaml.

    No VM and no target takes part: commands, metrics and logs answer what was recorded. The model is the step's, of
    SIGNALBOX_MODELS (it costs money), or with --replay what the tapes of a folder say. A situation passes when what the
    agent claims is right there, and its gate has nothing against the claim. Exit code 1 when too few pass.
    """
    try:
        from engine.commands import agent_eval  # noqa: PLC0415 - its libraries are an extra, and take a second
    except ModuleNotFoundError as error:
        raise BadInput(f"there is no {error.name} here", "install signalbox with its extra `agent`") from None
    told = (lambda text: click.echo(text, nl=False, err=True)) if verbose else (lambda _: None)
    tried = agent_eval.tried(load(), step, replay=replay, only=only, times=times, on_output=told)
    click.echo("\n".join(agent_eval.lines(tried, at_least)))
    if not agent_eval.enough(tried, at_least):
        sys.exit(1)
