"""Keeps the workspace in a JSON file: channels and messages survive a restart, open modals do not (as in Slack)."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from demo.workspace.model import Channel, Message, Team

FORMAT = 1


def save(team: Team, file: Path) -> None:
    """Write all of it beside the file, then put it in place in one step."""
    channels = [asdict(channel) for channel in team.channels.values()]
    beside = file.with_suffix(file.suffix + ".new")
    beside.write_text(json.dumps({"format": FORMAT, "channels": channels}, ensure_ascii=False))
    beside.replace(file)


def load(team: Team, file: Path) -> bool:
    """Take the channels of the file; False when there is no file. Raises ValueError for a file of another kind."""
    if not file.exists():
        return False
    value = json.loads(file.read_text())
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise ValueError(f"{file} was not written by this workspace: move it away")
    for row in value["channels"]:
        messages = [Message(**message) for message in row.pop("messages")]
        channel = Channel(**row, messages=messages)
        team.channels[channel.id] = channel
        for message in messages:
            team.no_ts_before(message.ts)
    return True
