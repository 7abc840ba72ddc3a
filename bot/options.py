"""What the bot must be told at start. `bot.main` fills it from the settings and hands it to `bot.app.create_app`."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class BotOptions:
    """Addresses, names and secrets (never printed: `repr` leaves them out).

    `api_token`: what may ask GET /v1/runs; without it nobody may. `feed_channel` is a channel (name, id), `invite` are
    user ids. Without both secrets of Slack it stays unconnected: pages and alerts work, and `/healthz` says what is
    missing.
    """

    public_url: str
    slack_bot_token: str = field(default="", repr=False)
    slack_signing_secret: str = field(default="", repr=False)
    slack_api_url: str = "https://slack.com/api/"
    feed_channel: str = "signalbox"
    api_token: str = field(default="", repr=False)
    invite: tuple[str, ...] = ()

    @property
    def has_slack(self) -> bool:
        """Whether there is a Slack workspace to talk to."""
        return bool(self.slack_bot_token and self.slack_signing_secret)
