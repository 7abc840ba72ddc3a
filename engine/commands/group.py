"""How every group of commands treats our errors. Used by `engine.cli` and by each group."""

from __future__ import annotations

import click

from engine.domain.errors import SignalboxError


class Commands(click.Group):
    """Turns our errors into one clear line and exit code 1; anything else is a bug and shows itself."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except SignalboxError as error:
            raise click.ClickException(told(error)) from None


def told(error: SignalboxError) -> str:
    """What happened, and below it what to do."""
    return f"{error}\n  -> {error.remedy}" if error.remedy else str(error)
