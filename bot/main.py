"""The process's entry point: puts the bot and the engine together. `signalbox up` runs all of it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import click
import structlog
from aiohttp import web as web_server
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from bot.app import create_app
from bot.options import BotOptions
from engine import doctor as examination
from engine import wiring
from engine.cli import cli
from engine.domain.errors import Unavailable
from engine.settings import Settings, load

log = structlog.get_logger()

MARGIN = " " * 20
""" Under the text of a finding. """


def options(settings: Settings) -> BotOptions:
    """What the bot must be told."""
    token, secret = settings.slack_bot_token, settings.slack_signing_secret
    return BotOptions(
        public_url=settings.url,
        slack_bot_token=token.get_secret_value() if token else "",
        slack_signing_secret=secret.get_secret_value() if secret else "",
        slack_api_url=settings.slack_api_url,
        api_token=settings.api_token.get_secret_value() if settings.api_token else "",
        feed_channel=settings.slack_feed_channel,
        invite=settings.slack_invite or settings.approvers,
    )


@cli.command()
def up() -> None:
    """Run Signalbox: alerts in, runs driven, Slack served, dashboard. One process does everything."""
    settings = load()
    with wiring.only_process(settings):
        _serve(settings, drives=True)


@cli.command()
def web() -> None:
    """Take alerts, serve Slack and the dashboard; runs are driven by workers (Postgres; on SQLite: all in one)."""
    settings = load()
    if settings.database.startswith("sqlite"):
        with wiring.only_process(settings):
            _serve(settings, drives=True)
    else:
        _serve(settings, drives=False)


def _serve(settings: Settings, *, drives: bool) -> None:
    with _listening(settings) as listening, wiring.installation(settings, drives=drives) as box:
        app = create_app(box.service, options(settings))
        box.watch.start()
        if box.worker is not None:
            box.worker.start()
            box.hypervisor.keep_warm()
        log.info("signalbox is up", dashboard=settings.url, database=box.database.dialect, drives=drives)
        try:
            web_server.run_app(app, sock=listening, print=None, handle_signals=True)
        finally:
            if box.worker is not None:
                box.worker.stop(settings.drain_s)
            box.watch.stop()
            log.info("signalbox is down")


def _listening(settings: Settings) -> socket.socket:
    """The web server's port, ours before anything else is started. Raises Unavailable."""
    host, _, port = settings.listen.rpartition(":")
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, int(port)))
    except (OSError, OverflowError) as error:
        listening.close()
        why = error.strerror if isinstance(error, OSError) else "there is no such port"
        raise Unavailable(f"cannot listen on {settings.listen}: {why}", "choose another SIGNALBOX_LISTEN") from None
    return listening


@cli.command()
def doctor() -> None:
    """Find what is misconfigured before an incident does. Exit code 1 when something is not well."""
    settings = load()
    sick = 0
    for finding in examination.examine(settings, {"slack": lambda: _slack(settings)}):
        mark = click.style("ok  ", fg="green") if finding.well else click.style("FAIL", fg="red")
        click.echo(f"{mark} {finding.part:<14} " + finding.text.strip().replace("\n", f"\n{MARGIN}"))
        if not finding.well:
            sick += 1
            click.echo(f"{MARGIN}-> {finding.remedy}")
    if sick:
        raise click.exceptions.Exit(1)


def _slack(settings: Settings) -> Iterator[examination.Finding]:
    if settings.slack_bot_token is None or settings.slack_signing_secret is None:
        remedy = "set SIGNALBOX_SLACK_BOT_TOKEN_FILE and SIGNALBOX_SLACK_SIGNING_SECRET_FILE: see README"
        yield examination.Finding(part="slack", well=False, text="not connected", remedy=remedy)
        return
    client = WebClient(token=settings.slack_bot_token.get_secret_value(), base_url=settings.slack_api_url, timeout=10)
    try:
        answer = client.auth_test()
    except SlackApiError as error:
        text, remedy = f"refused: {error.response['error']}", "reinstall the app, renew the token"
        yield examination.Finding(part="slack", well=False, text=text, remedy=remedy)
    except OSError as error:
        yield examination.Finding(
            part="slack", well=False, text=f"does not answer ({error})", remedy="check SIGNALBOX_SLACK_API_URL"
        )
    else:
        yield examination.Finding(part="slack", well=True, text=f"connected to {answer['team']} as {answer['user']}")


def main() -> None:
    """Console script."""
    cli()


if __name__ == "__main__":
    main()
