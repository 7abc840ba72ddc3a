"""`python -m demo.workspace --port 8090 --request-url http://127.0.0.1:8080/slack/events`: prints its URL, then serves.

Secrets come by environment, not by argument (arguments are visible to everybody): SLACK_SIGNING_SECRET,
SLACK_BOT_TOKEN; each may be given as NAME_FILE. Without them, the demo's own values hold.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import click

from demo.workspace.server import Workspace

SECRET = "SLACK_SIGNING_SECRET"  # noqa: S105  the name of a variable, not its value
TOKEN = "SLACK_BOT_TOKEN"  # noqa: S105  likewise


def _secret(name: str, default: str) -> str:
    file = os.environ.get(f"{name}_FILE")
    return Path(file).read_text().strip() if file else os.environ.get(name, default)


async def _serve(workspace: Workspace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with workspace:
        click.echo(f"workspace: {workspace.url}/")
        await stop.wait()


@click.command()
@click.option("--port", default=8090, show_default=True, help="on 127.0.0.1; 0: any free one")
@click.option("--request-url", default="", help="where the app takes commands, clicks and events")
@click.option("--state-file", type=click.Path(path_type=Path), help="survive a restart in this JSON file")
@click.option("--command", "commands", multiple=True, default=("/signalbox",), show_default=True)
@click.option("--event", "events", multiple=True, help="an event type that the app subscribed to")
@click.option("--channel", "channels", multiple=True, default=("general",), show_default=True)
@click.option("--time-factor", default=1.0, show_default=True, help="rate limits run that much faster")
def main(
    port: int,
    request_url: str,
    state_file: Path | None,
    commands: tuple[str, ...],
    events: tuple[str, ...],
    channels: tuple[str, ...],
    time_factor: float,
) -> None:
    """A workspace that stands in for Slack."""
    workspace = Workspace(
        port=port,
        signing_secret=_secret(SECRET, "demo-signing-secret"),
        bot_token=_secret(TOKEN, "xoxb-demo-bot"),
        request_url=request_url,
        state_file=state_file,
        commands=commands,
        events=events,
        channels=channels,
        time_factor=time_factor,
    )
    try:
        asyncio.run(_serve(workspace))
    except OSError as error:
        raise click.ClickException(f"cannot listen on port {port}: {error.strerror}; choose another --port") from None


if __name__ == "__main__":
    main()
