"""A tape is read strictly, and answers only what it was made for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.agents.replay import Answered, Call, Request, Tape, Turn, UserSaid, read_tape
from engine.domain.errors import BadInput, Refused

TAPE = """
format: signalbox-tape/v1
conversations:
  - key: step diagnose
    turns:
      - expects: [checkout]
        calls:
          - {id: look, tool: run, args: {argv: [df, /srv]}}
        usage: {input: 1200, output: 40}
      - expects: ["/9[0-9]%/"]
        says: It is full.
        cut: true
        usage: {input: 1300, output: 25}
  - key: step fix
    turns:
      - expects: [go]
        says: Done.
        usage: {input: 1, output: 1}
"""
LOOK = Call("run", {"argv": ["df", "/srv"]}, "look")
LOOKED = (UserSaid("checkout is full"), Turn(calls=(LOOK,)), Answered("look", "97%"))


def _request(*history: UserSaid | Answered | Turn, instructions: str = "This is step diagnose.") -> Request:
    return Request(
        path="/v1/messages",
        model="careful",
        instructions=instructions,
        history=history or LOOKED,
        tools=(),
        stream=False,
        body=b"",
    )


@pytest.fixture(name="path")
def a_path(tmp_path: Path) -> Path:
    path = tmp_path / "disk.yaml"
    path.write_text(TAPE)
    return path


@pytest.fixture(name="tape")
def a_tape(path: Path) -> Tape:
    return read_tape(path)


def test_turn_after_turn(tape: Tape) -> None:
    """Where the conversation stands is in the request."""
    first = tape.answer(_request(*LOOKED[:1]))
    second = tape.answer(_request())

    assert first == Turn(calls=(LOOK,), input_tokens=1200, output_tokens=40)
    assert second == Turn(text="It is full.", input_tokens=1300, output_tokens=25, cut=True)


def test_the_key_may_stand_in_the_users_first_message(tape: Tape) -> None:
    """Some clients put instructions there."""
    assert tape.answer(_request(UserSaid("step fix: go"), instructions="")).text == "Done."


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (_request(UserSaid("shop is full")), "turn 1: expected 'checkout'. What came: 'shop is full'"),
        (_request(*LOOKED[:2], Answered("look", "9 %")), "turn 2: expected '/9[0-9]%/'. What came: '9 %'"),
        (_request(*LOOKED, Turn(text="It is full."), UserSaid("and?")), "turn 3: the tape ends before it"),
        (_request(*LOOKED[:2]), "calls look were made, and none answered"),
        (_request(*LOOKED, Answered("look", "97%")), "calls look were made, and look, look answered"),
        (_request(LOOKED[0], Turn(text="Well."), UserSaid("97%")), "turn 1: the history has another turn"),
        (
            _request(LOOKED[0], Turn(calls=(replace(LOOK, args={"argv": ["rm"]}),)), LOOKED[2]),
            "run look \"{'argv': ['rm']}\" instead of run look \"{'argv': ['df', '/srv']}\"",
        ),
        (_request(instructions="step other"), "no conversation of the tape fits: their keys are 'step diagnose', "),
        (_request(instructions="step fix after step diagnose"), "more than one conversation of the tape fits"),
    ],
)
def test_what_is_not_on_the_tape(tape: Tape, request_: Request, told: str) -> None:
    """An error that says what was expected and what came; never an answer."""
    with pytest.raises(Refused) as refused:
        tape.answer(request_)

    assert told in str(refused.value)


def test_what_came_is_shown_in_part(tape: Tape) -> None:
    """A log of a megabyte does not become an error of a megabyte."""
    with pytest.raises(Refused) as refused:
        tape.answer(_request(UserSaid("x" * 1_000_000)))

    assert len(str(refused.value)) < 1000
    assert "(1,000,000 characters)" in str(refused.value)


def test_on_is_a_word(path: Path) -> None:
    """In YAML 1.1 it would be true."""
    path.write_text(TAPE.replace("[df, /srv]}", "[df, /srv], on: target, off: no}"))

    (call,) = read_tape(path).recordings[0].turns[0].turn.calls
    assert call.args == {"argv": ["df", "/srv"], "on": "target", "off": "no"}


def test_a_folder_is_one_tape(path: Path) -> None:
    """Of all conversations of its files."""
    path.with_name("other.yaml").write_text(TAPE.replace("step ", "stage "))

    assert len(read_tape(path.parent).recordings) == 4


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("tape/v1", "tape/v2", "format: Input should be 'signalbox-tape/v1'"),
        ("says: Done.", "say: Done.", "say: Extra inputs are not permitted"),
        ("says: Done.", "cut: false", "a turn says something or calls something"),
        ("expects: [go]", "expects: []", "expects: List should have at least 1 item"),
        ("expects: [go]", 'expects: [""]', "an empty text is expected everywhere"),
        ("/9[0-9]%/", "/9[0-9%/", "'/9[0-9%/' is no pattern"),
        ("id: look", "id: l.ook", "id: String should match pattern"),
        ("output: 40", "output: -1", "usage.output: Input should be greater than or equal to 0"),
        (
            "          - {id: look",
            "          - {id: look, tool: run}\n          - {id: look",
            "two calls have the id look",
        ),
        ("key: step fix", 'key: ""', "key: String should have at least 1 character"),
        ("turns:", "turns: [", "not YAML"),
        ("says: Done.", "says: Done.\n        says: Well.", "the key 'says' stands twice"),
    ],
)
def test_a_tape_with_a_mistake(path: Path, old: str, new: str, told: str) -> None:
    """Is not read; the file and the place are named."""
    assert old in TAPE
    path.write_text(TAPE.replace(old, new))

    with pytest.raises(BadInput) as refused:
        read_tape(path)

    assert "disk.yaml" in str(refused.value)
    assert told in str(refused.value)


def test_no_tape(tmp_path: Path) -> None:
    """An empty folder, and a file that is not there."""
    with pytest.raises(BadInput, match="no tape"):
        read_tape(tmp_path)
    with pytest.raises(BadInput, match="No such file"):
        read_tape(tmp_path / "nowhere.yaml")
