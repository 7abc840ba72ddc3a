"""The tools of an agent: what the model is told of them, and what a call does in the guest and gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engine.agents.keyless import keyless
from engine.agents.policy import rule_on
from engine.agents.toolbox import MAX_OUTPUT, RUN_TIMEOUT_S, Metrics, Toolbox
from engine.domain.agent import (
    CallRecord,
    CallState,
    CommandResult,
    CommandRule,
    Guest,
    LogSource,
    Tool,
    ToolCall,
    Tools,
    Where,
)
from engine.domain.errors import BadInput, Refused, Unavailable
from engine.domain.gate import Json
from engine.domain.ports import Ending, VmTask
from engine.runtime import attending, session
from engine.runtime.egress import Egress
from tests.plugins_vm import Plain
from tests.unit.runtime.local_agent import LocalGuest

TOOLS = Tools(
    run=(
        CommandRule(on=Where.TARGET, argv=("ls", "**")),
        CommandRule(argv=("python3", "/step/out/**")),
        CommandRule(on=Where.TARGET, argv=("systemctl", "status", "*"), ask=True),
    ),
    reads=("/step/**",),
    writes=("/step/out/**",),
    metrics=("checkout_*",),
    logs=(LogSource(name="service", argv=("tail", "-n", "200", "/srv/checkout log")),),
)


@dataclass
class FakeGuest:
    """A guest with files, one link, and one answer to every other command."""

    answer: CommandResult = field(default_factory=lambda: CommandResult(code=0, stdout="", stderr=""))
    files: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    ran: list[tuple[tuple[str, ...], float, int]] = field(default_factory=list)

    def run(self, argv: tuple[str, ...], timeout_s: float, output_limit: int) -> CommandResult:
        if argv[0] == "/usr/bin/realpath":
            return CommandResult(code=0, stdout=self.links.get(argv[-1], argv[-1]) + "\n", stderr="")
        self.ran.append((argv, timeout_s, output_limit))
        return self.answer

    def read(self, path: str, limit: int) -> bytes:
        if path not in self.files:
            raise BadInput(f"{path}: there is no such file")
        return self.files[path][:limit]

    def write(self, path: str, content: bytes) -> None:
        self.files[path] = content


class Masking(Plain):
    """Masks one word."""

    def __call__(self, text: str) -> str:
        return text.replace("hunter2", "***")


def call(tool: Tool, **args: Any) -> ToolCall:
    return ToolCall(id="1", tool=tool, args=args)


def made(guest: Guest, one: ToolCall, tools: Tools = TOOLS, metrics: Metrics | None = None) -> str:
    try:
        return Toolbox(tools, guest, Masking(), metrics).make(one, rule_on(one, tools))
    except Refused as error:
        return f"refused: {error}"


def said(stdout: str = "", stderr: str = "", code: int | None = 0, **more: Any) -> FakeGuest:
    return FakeGuest(CommandResult(code=code, stdout=stdout, stderr=stderr, **more))


# -- commands ---------------------------------------------------------------------------------------------------------


def test_a_command_runs_in_the_vm_as_its_words_and_without_the_steps_keys() -> None:
    guest = said("out\n", "err\n", 3)
    answer = made(guest, call(Tool.RUN, argv=["python3", "/step/out/a b.py"], on="vm"))
    assert guest.ran == [(keyless(("python3", "/step/out/a b.py")), RUN_TIMEOUT_S, MAX_OUTPUT)]
    assert answer == "exit code 3\nstdout:\nout\n\nstderr:\nerr\n"


def test_on_the_target_no_shell_sees_a_word_unquoted() -> None:
    guest = said()
    made(guest, call(Tool.RUN, argv=["ls", "a; rm -rf x", "$(id)", "it's"], on="target"))
    assert guest.ran[0][0] == ("ssh", "target", "--", """ls 'a; rm -rf x' '$(id)' 'it'"'"'s'""")


def test_a_refused_call_does_nothing_and_says_why() -> None:
    guest = said()
    answer = made(guest, call(Tool.RUN, argv=["rm", "-rf", "/"], on="target"))
    assert answer.startswith("refused: `rm -rf /` is not allowed on the target")
    assert guest.ran == []


def test_how_a_command_ended_is_said() -> None:
    one = call(Tool.RUN, argv=["ls"], on="target")
    assert made(said(code=None, reason="no end within 120 s"), one) == "it did not exit by itself: no end within 120 s"
    assert "(it met its limit of memory)" in made(said(code=1, reason="it met its limit of memory"), one)
    assert "cannot reach the target" in made(said(code=255), one)
    assert "cannot reach" not in made(said(code=255), call(Tool.RUN, argv=["python3", "/step/out/x"], on="vm"))
    assert "the rest was not kept" in made(said("x", truncated=True), one)


def test_a_long_answer_is_cut_in_its_middle_and_says_how_much() -> None:
    answer = made(said("a" * 5000 + "b" * 5000, "c" * 5000), call(Tool.RUN, argv=["ls"], on="target"))
    assert "[... 6000 characters cut ...]" in answer
    assert "[... 4000 characters cut ...]" in answer
    assert len(answer) < 5300


def test_an_answer_is_redacted_before_it_is_cut_and_what_cannot_be_seen_is_escaped() -> None:
    """No half of a secret stands at the cut, and nothing in it moves a terminal's cursor."""
    text = "x" * 2396 + "hunter2" + "y" * 5000 + "\x1b[2J\u202e\ttab\n"
    answer = made(said(text), call(Tool.RUN, argv=["ls"], on="target"))
    assert "hunt" not in answer
    assert answer.endswith("\\x1b[2J\\u202e\ttab\n")


def test_only_a_lost_vm_is_raised() -> None:
    class Lost(FakeGuest):
        def run(self, argv: tuple[str, ...], timeout_s: float, output_limit: int) -> CommandResult:
            raise Unavailable("the VM is gone")

    for one in (call(Tool.RUN, argv=["ls"], on="target"), call(Tool.READ, path="/step/x")):
        with pytest.raises(Unavailable):
            made(Lost(), one)


# -- files ------------------------------------------------------------------------------------------------------------


def test_files_are_read_and_written() -> None:
    guest = FakeGuest(files={"/step/a": b"text \xff hunter2"})
    assert made(guest, call(Tool.READ, path="/step/a")) == "/step/a, 14 bytes:\ntext \ufffd ***"
    assert made(guest, call(Tool.WRITE, path="/step/out/é", content="ü")) == "wrote 2 bytes to /step/out/é"
    assert guest.files["/step/out/é"] == "ü".encode()
    assert made(guest, call(Tool.READ, path="/step/b")) == "not done: /step/b: there is no such file"


@pytest.mark.parametrize("leads_to", ["/etc/shadow", "/step/../etc", "/step/a\nb", "/run/secrets/key", "", "relative"])
def test_a_link_that_leads_out_is_refused_and_named(leads_to: str) -> None:
    guest = FakeGuest(files={leads_to: b"secret"}, links={"/step/out/x": leads_to})
    for one in (call(Tool.READ, path="/step/out/x"), call(Tool.WRITE, path="/step/out/x", content="new")):
        answer = made(guest, one)
        assert answer.startswith("refused: " if leads_to else "not done: ")
        assert "\n" not in answer or leads_to == "/step/a\nb"
    assert guest.files == {leads_to: b"secret"}
    if leads_to == "/etc/shadow":
        assert "/step/out/x leads by a symbolic link to /etc/shadow" in answer


def test_a_link_within_what_is_granted_is_followed() -> None:
    guest = FakeGuest(files={"/step/b": b"of b"}, links={"/step/a": "/step/b", "/step/out/a": "/step/b"})
    assert made(guest, call(Tool.READ, path="/step/a")).endswith("of b")
    assert made(guest, call(Tool.WRITE, path="/step/out/a", content="")).startswith("refused: ")


def test_restoring_puts_back_what_was_written_last() -> None:
    """Of writes that were done, held to the policy again."""
    guest = FakeGuest()
    toolbox = Toolbox(TOOLS, guest, Masking())

    def record(order: int, path: str, content: str, state: CallState = CallState.DONE) -> CallRecord:
        return CallRecord(call=call(Tool.WRITE, path=path, content=content), state=state, order=order)

    troubles = toolbox.restore(
        [
            record(4, "/step/out/a", "second"),
            record(1, "/step/out/a", "first"),
            record(2, "/step/out/b", "begun", CallState.BEGUN),
            record(3, "/etc/passwd", "wicked"),
            CallRecord(call=call(Tool.READ, path="/step/x"), state=CallState.DONE, order=5),
        ]
    )
    assert guest.files == {"/step/out/a": b"second"}
    assert [trouble.split(";")[0] for trouble in troubles] == ["you may not write `/etc/passwd`"]


# -- metrics and logs -------------------------------------------------------------------------------------------------


def test_metrics_are_asked_with_the_names_that_are_granted() -> None:
    asked: list[object] = []

    def metrics(query: str, names: tuple[str, ...]) -> Json:
        asked.append((query, names))
        return {"series": ["hunter2"]}

    one = call(Tool.METRICS, query="sum(checkout_orders)")
    assert made(FakeGuest(), one, metrics=metrics) == '{"series": ["***"]}'
    assert asked == [("sum(checkout_orders)", ("checkout_*",))]
    assert made(FakeGuest(), one) == "not done: no Prometheus is configured here"


@pytest.mark.parametrize(
    "error", [Refused("not that metric"), Unavailable("not that metric"), BadInput("not that metric")]
)
def test_what_prometheus_does_not_give_is_told_to_the_model(error: Exception) -> None:
    def metrics(query: str, names: tuple[str, ...]) -> Json:
        raise error

    one = call(Tool.METRICS, query="up")
    assert made(FakeGuest(), one, metrics=metrics) == "not done: not that metric"


def test_a_log_is_read_as_declared_and_filtered_here() -> None:
    """By plain text: what the model says never reaches the target."""
    guest = said("one .*\ntwo\nthree .*\n")
    answer = made(guest, call(Tool.LOGS, name="service", contains=".*"))
    assert answer == "2 lines that contain '.*', the newest last:\none .*\nthree .*"
    assert guest.ran[0][0] == ("ssh", "target", "--", "tail -n 200 '/srv/checkout log'")
    assert made(said("a\nb\n"), call(Tool.LOGS, name="service")) == "2 lines, the newest last:\na\nb"


def test_of_a_long_log_the_newest_is_shown_and_of_none_the_reason() -> None:
    answer = made(said("old\n" + "x" * 9000 + "\nnew"), call(Tool.LOGS, name="service"))
    assert answer.endswith("new")
    assert "old" not in answer
    refused = made(said("", "tail: Permission denied", 1), call(Tool.LOGS, name="service"))
    assert refused == "the log could not be read: exit code 1\ntail: Permission denied"


def test_the_search_for_a_secret_finds_nothing() -> None:
    """The log is redacted before it is searched: whether a guess was right is not told."""
    answer = made(said(Masking()("the password is hunter2\n")), call(Tool.LOGS, name="service", contains="hunter2"))
    assert answer.startswith("0 lines")


# -- what the model is told -------------------------------------------------------------------------------------------


def test_the_model_is_told_of_what_is_granted_and_of_nothing_else() -> None:
    told = {spec.name: spec for spec in Toolbox(TOOLS, FakeGuest(), Masking()).specs()}
    assert list(told) == ["run", "read", "write", "metrics", "logs"]
    assert "- on target: systemctl status *   (a person is asked first)" in told["run"].description
    assert "- on vm: python3 /step/out/**" in told["run"].description
    assert "- /step/out/**" in told["write"].description
    assert "- checkout_*" in told["metrics"].description
    assert "- service: tail -n 200 '/srv/checkout log'" in told["logs"].description
    for spec in told.values():
        assert spec.schema["additionalProperties"] is False
    assert Toolbox(Tools(), FakeGuest(), Masking()).specs() == ()
    only_vm = Tools(run=(CommandRule(argv=("true",)),))
    (spec,) = Toolbox(only_vm, FakeGuest(), Masking()).specs()
    assert spec.schema["properties"] == {
        "argv": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 64},
        "on": {"type": "string", "enum": ["vm"]},
    }


# -- with the real guest agent ----------------------------------------------------------------------------------------


@pytest.fixture
def attended(tmp_path: Path) -> Iterator[Callable[[Callable[[Guest], None]], None]]:
    """Work in a guest that is a process: its files are those of this machine."""
    egress = Egress(())
    local = LocalGuest(tmp_path / "guest", egress)
    task = VmTask(id="t", run_id="r", image="step", timeout_s=60, argv=("true",))

    def attend(work: Callable[[Guest], None]) -> None:
        body = attending.body(work, Plain())
        result = session.carry_out(local.channel, egress, task, Plain(), print, boot_timeout_s=20, body=body)
        assert (result.ending, result.reason) == (Ending.EXITED, "")

    yield attend
    local.close()


def test_links_are_followed_where_they_are(attended: Callable[[Callable[[Guest], None]], None], tmp_path: Path) -> None:
    """A folder, a file, and what is not there yet: by the guest's own realpath."""
    base = tmp_path.resolve()
    inside, outside = base / "in", base / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret").write_text("of another")
    (inside / "file").symlink_to(outside / "secret")
    (inside / "folder").symlink_to(outside)
    (inside / "real").write_text("ours")
    (inside / "near").symlink_to("real")
    tools = Tools(reads=(f"{inside}/**",), writes=(f"{inside}/**",))
    seen: list[str] = []

    def work(guest: Guest) -> None:
        reads = [call(Tool.READ, path=f"{inside}/{name}") for name in ("file", "folder/secret", "near")]
        names = ("file", "folder/new", "near", "a/b")
        writes = [call(Tool.WRITE, path=f"{inside}/{name}", content="new") for name in names]
        seen.extend(made(guest, one, tools) for one in (*reads, *writes))

    attended(work)
    refused = [answer.startswith("refused: ") and f"to {outside}/" in answer for answer in seen]
    assert refused == [True, True, False, True, True, False, False]
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == "of another"
    assert [(inside / name).read_text() for name in ("real", "a/b")] == ["new", "new"]
