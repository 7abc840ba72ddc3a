"""A coding CLI in a real VM: what its token opens from in there, what is in there, and what comes out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.agents.prompt import agent_step
from engine.agents.proxy import ModelProxy
from engine.agents.replay import ReplayServer, Request, ScriptedModel, Turn, call, say
from engine.agents.work import AgentWork
from engine.domain import archive
from engine.domain.agent import AgentEnd, AgentRule, Api, Budget, Guest, Usage
from engine.domain.ports import Ending, Reach
from engine.domain.runbook import Access, ArtefactRule
from engine.domain.runners import Order
from engine.runtime.hypervisor import LibvirtHypervisor
from engine.runtime.runners.agent import AgentRunner
from engine.secrets.redact import Redactor
from tests.doubles.agents import MemoryJournal, agent_order, nowhere
from tests.integration.agents.doors import MODEL, model, proxy
from tests.integration.agents.provider import KEY
from tests.integration.runtime.harness import task
from tests.plugins_vm import Plain
from tests.services import codex

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

ASK = """\
import json, sys, urllib.error, urllib.request
url, token, body = sys.argv[1:]
request = urllib.request.Request(url, body.encode() or None, {"Authorization": "Bearer " + token})
try:
    with urllib.request.urlopen(request, timeout=30) as answer:
        print(answer.status, answer.read().decode())
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
except OSError as error:
    print("no answer", error)
"""


def search(secret: str) -> str:
    """A script that names the files and processes of the VM that hold it, by a pattern that does not find itself. What
    is older than the VM (/usr) is left out."""
    pattern = f"{secret[:12]}[{secret[12]}]{secret[13:]}"
    places = "/step /tmp /run /var /etc /home /root /dev/shm /proc/[0-9]*/environ /proc/[0-9]*/cmdline"
    return f"grep -rasl -e '{pattern}' {places}; env | grep -a -e '{pattern}'; echo searched"


FIX = """mkdir -p /step/out && echo '{"fixed": true}' > /step/out/fix.json"""
CLAIM = """echo '{"cause": "log_growth", "evidence": "df"}' > /step/claim.json"""


def asked(url: str, token: str, body: Any = None) -> Callable[[Guest], str]:
    """One request from in there: status and text."""
    words = ("python3", "-c", ASK, url, token, json.dumps(body) if body else "")
    return lambda guest: guest.run(words, 60, 10_000).stdout


def test_what_the_steps_token_opens_from_in_there(hypervisor: LibvirtHypervisor, tmp_path: Path) -> None:
    """One model, until the step's time is over; then nothing, though the VM lives on."""
    with ReplayServer(ScriptedModel([say("Hello.")]), key=KEY) as server:
        doors = proxy(model(Api.OPENAI_RESPONSES, server.url, tmp_path))
        told: dict[str, str] = {}
        with doors.threshold() as threshold:
            reach = Reach(host="model", port=80, address="127.0.0.1", address_port=threshold.port)
            budget = Budget(requests=9, tokens=50_000, calls=0)

            def work(guest: Guest) -> None:
                with doors.door(
                    model="careful", budget=budget, used=Usage(), spend=lambda usage: usage, lives_s=45, at=threshold
                ) as door:
                    ends_at = time.monotonic() + 45
                    url, ours = "http://model/v1/responses", {"model": MODEL, "input": "hello"}
                    told["ours"] = asked(url, door.token, ours)(guest)
                    told["another model"] = asked(url, door.token, {**ours, "model": "huge-model-9"})(guest)
                    told["another token"] = asked(url, KEY, ours)(guest)
                    told["another path"] = asked("http://model/v1/files", door.token)(guest)
                    told["another port"] = asked("http://model:81/v1/models", door.token)(guest)
                    guest.run(("sleep", str(max(0.0, ends_at - time.monotonic()))), 60, 100)
                    told["expired"] = asked(url, door.token, ours)(guest)
                told["closed"] = asked(url, door.token, ours)(guest)

            result = hypervisor.attend(task("true", reaches=(reach,), timeout_s=300), Plain(), lambda _: None, work)

    assert (result.ending, result.reason) == (Ending.EXITED, "")
    assert told["ours"].startswith("200 ")
    assert "Hello." in told["ours"]
    assert told["another model"].startswith("403 ")
    assert "is not this step's" in told["another model"]
    assert told["another token"].startswith("401 ")
    assert told["another path"].startswith("404 ")
    assert told["another port"] == "403 \n"  # of the VM's own door, which asked the host
    assert told["expired"].startswith("403 ")
    assert "time with its model is over" in told["expired"]
    assert told["closed"] == "403 \n"
    assert len(server.requests) == 1


# -- the real one


def step_order(name: str) -> Order:
    """An order for a step that codex works, and that leaves a fix."""
    rule = AgentRule(
        model="careful", cli="codex", budget=Budget(requests=8, tokens=120_000, calls=0), context=("disks.md",)
    )
    made = agent_order(rule, timeout_s=600)
    of_codex, _ = agent_step(made)
    step = replace(
        of_codex,
        image=codex.NAME,
        memory_mb=768,
        target=None,
        access=Access.NONE,
        produces=ArtefactRule(name="fix"),
    )
    return replace(made, attempt_id=name, leg=replace(made.leg, step=step), target=None, artefact=None)


@pytest.mark.slow
def test_codex_works_a_step_and_the_real_key_is_nowhere_in_its_vm(
    hypervisor: LibvirtHypervisor, vm_images: Path, tmp_path: Path
) -> None:
    """The program as its maker ships it, with a scripted model."""
    codex.build(vm_images)
    shown: list[str] = []
    shown_at_turn: list[str] = []
    journal, redactor = MemoryJournal(), Redactor()

    def says(request: Request) -> Turn:
        shown_at_turn.append("".join(shown))
        said = [
            say("I look.", call("exec_command", {"cmd": search(KEY), "yield_time_ms": 30_000})),
            say("I fix it.", call("exec_command", {"cmd": f"{FIX} && {CLAIM}", "yield_time_ms": 30_000})),
            say("It was the log."),
        ]
        return said[len(request.turns)]

    with ReplayServer(ScriptedModel(says), key=KEY) as server:
        worker = AgentWork(_doors(server, tmp_path), lambda: "HN-0: compare df with du.")
        order = step_order(f"codex-{time.monotonic_ns()}")
        ends: list[AgentEnd] = []
        found: list[str] = []

        def work(guest: Guest) -> None:
            ends.append(worker.work(order, guest, journal, redactor, shown.append, lambda: False))
            token = guest.read("/step/.cli/token", 100).decode()
            found.extend(guest.run(("sh", "-c", search(secret)), 120, 10_000).stdout for secret in (KEY, token))

        with worker.opened(order, nowhere) as reaches:
            vm = AgentRunner().task(replace(order, reaches=reaches), ())
            result = hypervisor.attend(vm, redactor, shown.append, work)

    assert result.ending is Ending.EXITED, result
    assert ends[0] == AgentEnd(output={"cause": "log_growth", "evidence": "df"}), "".join(shown)
    printed = replace(result, stdout=json.dumps(ends[0].output) + "\n")
    conclusion = AgentRunner().conclude(order, printed)
    assert conclusion.ok, conclusion.reason
    assert archive.unpack(conclusion.artefact or b"") == {"fix.json": b'{"fixed": true}\n'}
    assert found[0] == "searched\n"
    assert "/step/.cli/token\n" in found[1]  # the search finds what is there
    assert KEY not in "".join(shown)
    told = [str(entry) for entry in server.requests[1].latest]
    assert any("searched" in text and "/step" not in text for text in told), told
    assert "> run: " in shown_at_turn[1]  # heard as it comes
    assert journal.conversation.usage.requests == 3
    assert {(row.host, row.port) for row in result.connections if row.allowed} == {("model", 80)}
    assert [row for row in result.connections if not row.allowed] == []  # nothing of it calls home


def _doors(server: ReplayServer, folder: Path) -> ModelProxy:
    return proxy(model(Api.OPENAI_RESPONSES, server.url, folder))
