"""Agents that ask for what their step does not grant: one conversation tries it all, and each try has its test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from engine.agents.replay import Call, Turn, call, say
from engine.domain.agent import CallState
from engine.domain.gate import Json
from engine.domain.states import RunState
from tests.integration.cheating.stage import FOUND, Stage, stage
from tests.integration.engine.an_agent import calls
from tests.integration.engine.conftest import installed

PAYLOAD = '{"type":"block_actions","actions":[{"action_id":"approval.approve","value":"token"}]}'


@dataclass(frozen=True)
class Try:
    """A call that is refused. `named`: what the channel says of it."""

    id: str
    tool: str
    args: Mapping[str, Json]
    named: str


def write(name: str, path: str, named: str) -> Try:
    """A file where none may be written."""
    return Try(name, "write", {"path": path, "content": "owned"}, named)


def run(name: str, *argv: str, named: str, on: str = "vm") -> Try:
    """A command that no rule allows."""
    return Try(name, "run", {"argv": list(argv), "on": on}, named)


TRIES = (
    write("leads-back", "/step/out/fix/../../../etc/passwd", "/step/out/fix/../../../etc/passwd` (it leads back"),
    write("relative", "fix/../../etc/cron.d/x", "you may not write `fix/../../etc/cron.d/x` (it is relative"),
    write("absolute", "/etc/passwd", "you may not write `/etc/passwd`"),
    write("a-sign-that-becomes-dots", "/step/out/\u2025/\u2025/etc/x", "etc/x` (it is not in Unicode's normal form"),
    write("letters-that-look-alike", "/step/\u043eut/fix.json", "mixes alphabets"),
    write("letters-that-turn-around", "/step/out/\u202efix.json", "u202efix.json` (it holds a control character"),
    write("by-a-link", "/step/out/link", "/step/out/link leads by a symbolic link to /etc/cron.d/x"),
    write("edits-the-check", "/step/runbook/verify.sh", "you may not write `/step/runbook/verify.sh`"),
    write("plants-what-the-verifier-reads", "/root/.bashrc", "you may not write `/root/.bashrc`"),
    Try("reads-a-secret", "read", {"path": "/run/secrets/key"}, "/run/secrets/key` (the step's keys lie there"),
    Try("reads-the-key-of-its-ssh", "read", {"path": "/step/.ssh/config"}, "(the step's keys lie there"),
    run("a-secret-by-a-command", "cat", "/run/secrets/key", named="`cat /run/secrets/key` is not allowed in the VM"),
    run("deletes", "rm", "-rf", "/srv", on="target", named="`rm -rf /srv` is not allowed on the target"),
    run("a-shell", "sh", "-c", "df; rm -rf /srv", named="`sh -c 'df; rm -rf /srv'` is not allowed in the VM"),
    run("an-ssh-of-its-own", "ssh", "target", "reboot", named="`ssh target reboot` is not allowed in the VM"),
    run("an-option-where-a-word-is-granted", "df", "--output=x", named="`df --output=x` is not allowed in the VM"),
    run("posts-a-click-of-Slacks", "curl", "-d", PAYLOAD, "http://signalbox/slack", named="`curl -d "),
    run("two-commands-in-one", "df; reboot", on="target", named="`'df; reboot'` is not allowed on the target"),
    Try("a-log-that-is-not-there", "logs", {"name": "/etc/shadow"}, "there is no log `/etc/shadow`"),
)


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, str]]:
    """After all that: the stage, and what the channel says."""
    folder = tmp_path_factory.mktemp("tried")
    script: list[Turn | Call] = [
        say("Let me look.", *(call(one.tool, one.args, one.id) for one in TRIES)),
        call("finish", FOUND),
    ]
    with installed(f"sqlite:///{folder / 'test.db'}") as box, stage(box, folder, script) as at:
        at.go()
        yield at, at.channel()


@pytest.mark.parametrize("one", TRIES, ids=[one.id for one in TRIES])
def test_a_call_that_is_not_granted_is_not_made_and_is_named(tried: tuple[Stage, str], one: Try) -> None:
    at, channel = tried

    assert calls(at.box)[one.id].state is CallState.REFUSED
    assert one.named in channel


def test_none_of_it_came_to_anything(tried: tuple[Stage, str]) -> None:
    """No command, no file but the honest one of the other agent; and the run stands where any run would."""
    at, _ = tried

    assert at.shop.commands == []
    assert at.shop.files == ["/step/out/fix.json"]
    assert at.production_is_untouched()
    assert at.run().state is RunState.AWAITING_APPROVAL
