"""The manifest that a person pastes into Slack asks for what we use, and for nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

from bot.slack.commands import COMMAND, WORDS

ROOT = Path(__file__).parents[3]
MANIFEST = json.loads((ROOT / "docs" / "slack-manifest.json").read_text())
SCOPES_OF = {
    "chat.postMessage": "chat:write",
    "chat.update": "chat:write",
    "chat.getPermalink": None,
    "conversations.create": "channels:manage",
    "conversations.setTopic": "channels:manage",
    "conversations.invite": "channels:manage",
    "conversations.join": "channels:join",
    "conversations.list": "channels:read",
    "conversations.history": "channels:history",
    "conversations.replies": "channels:history",
    "auth.test": None,
}
""" From the page of each method, https://docs.slack.dev/reference/methods/ (public channels). """


def test_every_method_that_we_call_has_its_scope_and_no_scope_is_left_over() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "bot" / "slack").glob("*.py"))
    called = set(re.findall(r'"((?:chat|conversations|auth)\.\w+)"', sources))

    assert called == set(SCOPES_OF)
    wanted = {scope for scope in SCOPES_OF.values() if scope} | {"commands"}
    assert set(MANIFEST["oauth_config"]["scopes"]["bot"]) == wanted


def test_there_is_one_command_and_its_hint_names_every_word() -> None:
    [command] = MANIFEST["features"]["slash_commands"]

    assert command["command"] == COMMAND
    assert all(word in command["usage_hint"] for word in WORDS)


def test_everything_comes_to_one_address() -> None:
    assert MANIFEST["settings"]["interactivity"]["request_url"].endswith("/slack/events")
    assert MANIFEST["features"]["slash_commands"][0]["url"].endswith("/slack/events")
    assert MANIFEST["settings"]["socket_mode_enabled"] is False
