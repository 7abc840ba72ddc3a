"""What the loop's process and the worker say to one another: one JSON object a line, over stdin and stdout.

The worker begins with `Start` and answers each `Call` with an `Answer`; the process says `Said`, `Call` and, at last,
`End`. The worker holds every line to these models: what comes out of the process is hostile.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter

LONGEST = 4 << 20
""" Bytes. The longest line: the whole conversation is one. """


class Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    def line(self) -> bytes:
        """As it goes through the pipe."""
        return self.model_dump_json().encode("utf-8", "replace") + b"\n"


class ToolLine(Line):
    """A tool that the model is offered. `parameters`: the JSON schema of its arguments."""

    name: str
    description: str
    parameters: dict[str, Any]


class Start(Line):
    """All that the loop needs. `finish`: the JSON schema of the output; None: its last text is its output.

    `history`: the messages of an earlier attempt, and `user` is not said again then. The numbers are what is left.
    """

    api: Literal["anthropic", "openai", "openai-responses"]
    model: str
    token: str
    socket: str
    instructions: str
    user: str
    tools: list[ToolLine]
    finish: dict[str, Any] | None
    history: list[JsonValue]
    requests: int
    tokens: int
    calls: int


class Answer(Line):
    """What the model is told about its call."""

    id: str
    text: str


class Said(Line):
    """The whole conversation as it is now. `text`: what the model just said, for people."""

    kind: Literal["said"] = "said"
    messages: list[JsonValue]
    text: Annotated[str, Field(max_length=64 * 1024)] = ""


class Call(Line):
    """The model asks for a tool."""

    kind: Literal["call"] = "call"
    id: Annotated[str, Field(pattern=r"\A[\x21-\x7e]{1,200}\z")]
    tool: Annotated[str, Field(max_length=64)]
    args: dict[str, JsonValue]


class End(Line):
    """It is over: with an output, or with a reason."""

    kind: Literal["end"] = "end"
    output: JsonValue = None
    reason: Annotated[str, Field(max_length=2000)] = ""


Word = Annotated[Said | Call | End, Field(discriminator="kind")]
WORDS: TypeAdapter[Said | Call | End] = TypeAdapter(Word)
