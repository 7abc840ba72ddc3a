"""What Slack sends when people act, parsed once at the edge. Unknown fields are welcome: Slack adds some every year.

Nothing but ids, and what a person typed or chose, is believed: everything else is read from the database.
Shapes: https://docs.slack.dev/reference/interaction-payloads/block_actions-payload
        https://docs.slack.dev/reference/interaction-payloads/view-interactions-payload
        https://docs.slack.dev/interactivity/implementing-slash-commands#app_command_handling
"""

from __future__ import annotations

from html import unescape
from typing import Annotated

from pydantic import BaseModel, Field

from engine.domain.incident import MessageRef, Person

Id = Annotated[str, Field(max_length=255)]
Text = Annotated[str, Field(max_length=10_000)]


class User(BaseModel):
    """Who acted."""

    id: Id
    username: Text = ""
    name: Text = ""

    @property
    def person(self) -> Person:
        """For the service."""
        return Person(id=self.id, name=(self.name or self.username)[:80])


class Container(BaseModel):
    """Where the pressed element is."""

    message_ts: Id = ""
    channel_id: Id = ""


class Choice(BaseModel):
    """A chosen option of a select."""

    value: Id = ""


class Action(BaseModel):
    """The pressed element."""

    action_id: Id
    block_id: Id = ""
    action_ts: Id = ""
    value: Annotated[str, Field(max_length=2000)] = ""
    selected_option: Choice | None = None


class Click(BaseModel):
    """A `block_actions` payload."""

    user: User
    container: Container
    actions: Annotated[list[Action], Field(min_length=1)]
    trigger_id: Id = ""

    @property
    def action(self) -> Action:
        """The pressed element; a click has one."""
        return self.actions[0]

    @property
    def key(self) -> str:
        """The same for the same click sent again."""
        pressed, where = self.action, self.container
        return f"click:{where.channel_id}:{where.message_ts}:{pressed.action_id}:{pressed.action_ts}:{self.user.id}"

    @property
    def at(self) -> MessageRef:
        """The message that carries the element."""
        return MessageRef(channel=self.container.channel_id, ts=self.container.message_ts)


class InputState(BaseModel):
    """What one input holds."""

    value: Text | None = None
    selected_option: Choice | None = None


class State(BaseModel):
    """What all inputs hold: block id -> action id -> input."""

    values: dict[str, dict[str, InputState]] = Field(default_factory=dict)


class View(BaseModel):
    """A submitted modal."""

    id: Id
    hash: Id = ""
    private_metadata: Annotated[str, Field(max_length=3000)] = ""
    state: State = Field(default_factory=State)


class Submission(BaseModel):
    """A `view_submission` payload."""

    user: User
    view: View

    @property
    def key(self) -> str:
        """The same for the same submission sent again; another once the modal was updated."""
        return f"view:{self.view.id}:{self.view.hash}:{self.view.private_metadata[-20:]}"

    def text(self, block_id: str) -> str:
        """What was typed into this block."""
        inputs = self.view.state.values.get(block_id, {}).values()
        return next((each.value or "" for each in inputs), "").strip()

    def choices(self, prefix: str) -> dict[str, str]:
        """Block ids with this prefix (which is taken off) -> what was chosen there."""
        return {
            block_id.removeprefix(prefix): each.selected_option.value
            for block_id, inputs in self.view.state.values.items()
            for each in inputs.values()
            if block_id.startswith(prefix) and each.selected_option is not None
        }


class Command(BaseModel):
    """A slash command."""

    user_id: Id
    user_name: Text = ""
    channel_id: Id = ""
    text: Text = ""
    trigger_id: Id

    @property
    def person(self) -> Person:
        """For the service."""
        return Person(id=self.user_id, name=self.user_name[:80])

    @property
    def key(self) -> str:
        """The same for the same command sent again."""
        return f"command:{self.trigger_id}"

    @property
    def words(self) -> list[str]:
        """The text as typed: Slack's three escapes undone, and the long dash that phones make of `--` too."""
        return [f"--{word[1:]}" if word.startswith("—") else word for word in unescape(self.text).split()]
