"""`signalbox model ...`: the models of agent steps, and whether one really calls tools."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from engine import wiring
from engine.agents.models import Model
from engine.agents.probe import Probed, probe
from engine.agents.proxy import ModelProxy
from engine.commands.group import Commands
from engine.commands.table import table
from engine.domain.errors import BadInput
from engine.settings import load

HEAD = ("NAME", "API", "MODEL", "SERVER", "KEY", "USD PER MILLION TOKENS")


@click.group("model", cls=Commands)
def model_group() -> None:
    """Look at the models of agent steps (the file SIGNALBOX_MODELS), and try one."""


@model_group.command("list")
def model_list() -> None:
    """Every model: what it is, where, and whether its key is there. No key is printed, and no model is asked."""
    models = wiring.models(load())
    if not models.by_name:
        click.echo(f"no model in {models.path}: see README, section Models")
        return
    rows = [_row(model) for _, model in sorted(models.by_name.items())]
    click.echo("\n".join(table(HEAD, rows)))


def _row(model: Model) -> tuple[str, ...]:
    price = "unknown" if model.price is None else f"{model.price.input:g} in, {model.price.output:g} out"
    server = f"{model.address.host}:{model.address.port}"
    return (model.name, model.api, model.model, server, _key(model), price)


def _key(model: Model) -> str:
    try:
        return "there" if model.key() else "none needed"
    except BadInput:
        return f"missing: {model.key_env or model.key_file}"


@model_group.command("check")
@click.argument("name")
def model_check(name: str) -> None:
    """Ask model NAME twice, once with a tiny tool: does it call it? Costs a little. Exit code 1 when it does not."""
    settings = load()
    model = wiring.models(settings).named(name)
    found = probe(ModelProxy(lambda: wiring.models(settings)), model)
    click.echo("\n".join(_told(model, found)))
    if not found.called:
        sys.exit(1)


def _told(model: Model, found: Probed) -> Iterator[str]:
    if found.called:
        yield f"{model.name} calls tools"
    elif found.drops_tools:
        yield f"{model.name} never saw the tool: its server drops tools (the question costs the same without one)"
        yield "  -> give its server a chat template that knows tools, or take another model"
    else:
        yield f"{model.name} did not call the tool that it was asked to call"
        yield "  -> take another model: an agent acts by tools only"
    usage = found.usage
    cost = "its price is unknown" if model.price is None else f"${usage.microdollars / 1e6:.4f}"
    yield f"{usage.requests} requests, {usage.tokens:,} tokens, {cost}"
