"""A tape: what a model says, turn for turn, and what it is to be answered to. Written by people, read strictly.

```yaml
format: signalbox-tape/v1
conversations:
  - key: "Step diagnose"              # stands in the instructions or the user's first message; exactly one may fit
    turns:
      - expects: [disk_full]          # each stands in what was said to the model since its last turn; /.../: a pattern
        says: I look at the disk first.
        calls:
          - {id: call_1, tool: run, args: {argv: [df, /srv], on: target}}
        usage: {input: 1200, output: 40}
      - expects: ["/9[0-9]%/"]
        calls:
          - {id: call_2, tool: final_result, args: {cause: log_growth}}
        usage: {input: 1300, output: 25}
```

Where a conversation stands is counted in the request: it must hold the turns of the tape so far, as they were told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from engine.agents.replay.conversation import Answered, Call, Request, Turn, UserSaid
from engine.domain.errors import BadInput, Refused
from engine.domain.gate import Json

FORMAT = "signalbox-tape/v1"
MOST_BYTES = 4 << 20
_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Expected:
    """What must stand in what was said to the model: a text, or a pattern when written between slashes."""

    text: str

    def met_by(self, said: str) -> bool:
        """Whether it stands there."""
        pattern = _pattern(self.text)
        return re.search(pattern, said) is not None if pattern is not None else self.text in said


@dataclass(frozen=True, slots=True)
class Recorded:
    """A turn, and what it is to be answered to."""

    expects: tuple[Expected, ...]
    turn: Turn


@dataclass(frozen=True, slots=True)
class Recording:
    """A conversation. `origin`: the file it stands in."""

    key: str
    turns: tuple[Recorded, ...]
    origin: str


@dataclass(frozen=True, slots=True)
class Tape:
    """Conversations; says what is written in the one that a request belongs to, or nothing."""

    recordings: tuple[Recording, ...]

    def answer(self, request: Request) -> Turn:
        """The next turn. Raises Refused: this is not on the tape; the text says what was expected and what came."""
        recording = self._of(request)
        _hold_history(recording, request)
        number = len(request.turns)
        if number >= len(recording.turns):
            raise Refused(f"{_at(recording, number)}: the tape ends before it. {_came(request)}")
        recorded = recording.turns[number]
        said = "\n".join(entry.text for entry in request.latest)
        for expected in recorded.expects:
            if not expected.met_by(said):
                raise Refused(f"{_at(recording, number)}: expected {expected.text!r}. {_came(request)}")
        return recorded.turn

    def _of(self, request: Request) -> Recording:
        first = next((entry.text for entry in request.history if isinstance(entry, UserSaid)), "")
        fitting = [each for each in self.recordings if each.key in request.instructions or each.key in first]
        if len(fitting) == 1:
            return fitting[0]
        keys = ", ".join(repr(each.key) for each in (fitting or self.recordings))
        why = "more than one conversation of the tape fits" if fitting else "no conversation of the tape fits"
        raise Refused(f"{why}: their keys are {keys}. Instructions: {_short(request.instructions)}. {_came(request)}")


def read_tape(path: Path) -> Tape:
    """A tape from a file, or from all *.yaml of a folder. Raises BadInput."""
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    if not files:
        raise BadInput(f"{path}: no tape (*.yaml) in this folder")
    return Tape(tuple(recording for file in files for recording in _read_file(file)))


# -- the file ---------------------------------------------------------------------------------------------------------


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Call(_Part):
    id: str = Field(pattern=r"\A[A-Za-z0-9_-]{1,64}\z")
    tool: str = Field(pattern=r"\A[A-Za-z0-9_-]{1,64}\z")
    args: dict[str, JsonValue] = {}


class _Usage(_Part):
    input: int = Field(ge=0)
    output: int = Field(ge=0)


class _Turn(_Part):
    expects: list[str] = Field(min_length=1)
    says: str = ""
    calls: list[_Call] = []
    usage: _Usage
    cut: bool = False


class _Conversation(_Part):
    key: str = Field(min_length=1)
    turns: list[_Turn] = Field(min_length=1)


class _File(_Part):
    format: Literal["signalbox-tape/v1"]
    conversations: list[_Conversation] = Field(min_length=1)


def _read_file(path: Path) -> list[Recording]:
    try:
        text = path.read_bytes()
        if len(text) > MOST_BYTES:
            raise BadInput(f"{path}: longer than {MOST_BYTES:,} bytes")
        file = _File.model_validate(yaml.safe_load(text))
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise BadInput(f"{path}: not YAML: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadInput(f"{path}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error
    return [_recording(each, path) for each in file.conversations]


def _recording(told: _Conversation, path: Path) -> Recording:
    ids = [call.id for turn in told.turns for call in turn.calls]
    for twice in {each for each in ids if ids.count(each) > 1}:
        raise BadInput(f"{path}: {told.key!r}: two calls have the id {twice}")
    return Recording(told.key, tuple(_recorded(turn, path) for turn in told.turns), path.name)


def _recorded(told: _Turn, path: Path) -> Recorded:
    if not told.says and not told.calls:
        raise BadInput(f"{path}: a turn says something or calls something")
    for text in told.expects:
        _check(text, path)
    return Recorded(
        expects=tuple(Expected(text) for text in told.expects),
        turn=Turn(
            text=told.says,
            calls=tuple(Call(call.tool, call.args, call.id) for call in told.calls),
            input_tokens=told.usage.input,
            output_tokens=told.usage.output,
            cut=told.cut,
        ),
    )


def _check(text: str, path: Path) -> None:
    try:
        re.compile(_pattern(text) or "")
    except re.error as error:
        raise BadInput(f"{path}: {text!r} is no pattern: {error}") from error
    if not text:
        raise BadInput(f"{path}: an empty text is expected everywhere; say which")


def _pattern(text: str) -> str | None:
    return text[1:-1] if len(text) > 2 and text.startswith("/") and text.endswith("/") else None


# -- holding a request to it ------------------------------------------------------------------------------------------


def _hold_history(recording: Recording, request: Request) -> None:
    """The history holds the calls that the tape made, and each of them was answered. Raises Refused."""
    for number, (told, recorded) in enumerate(zip(request.turns, recording.turns, strict=False)):
        if _calls(told.calls) != _calls(recorded.turn.calls):
            raise Refused(
                f"{_at(recording, number)}: the history has another turn than the tape: "
                f"{_names(told.calls)} instead of {_names(recorded.turn.calls)}"
            )
    asked = [call.id for turn in request.turns for call in turn.calls]
    answered = [entry.call_id for entry in request.history if isinstance(entry, Answered)]
    if sorted(asked) != sorted(answered):
        raise Refused(
            f"{_at(recording, len(request.turns))}: calls {', '.join(asked) or 'none'} were made, "
            f"and {', '.join(answered) or 'none'} answered"
        )


def _calls(calls: Sequence[Call]) -> list[tuple[str, str, Mapping[str, Json]]]:
    return [(call.id, call.name, call.args) for call in calls]


def _names(calls: Sequence[Call]) -> str:
    return ", ".join(f"{call.name} {call.id} {_short(str(dict(call.args)))}" for call in calls) or "no call"


def _at(recording: Recording, number: int) -> str:
    return f"not on the tape: {recording.origin}, {recording.key!r}, turn {number + 1}"


def _came(request: Request) -> str:
    said = "\n".join(entry.text for entry in request.latest)
    return f"What came: {_short(said)}"


def _short(text: str) -> str:
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}... ({len(text):,} characters)"
