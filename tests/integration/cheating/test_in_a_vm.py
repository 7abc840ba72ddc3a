"""What an agent's own program tries within a real VM: links, keys, connections, clicks of Slack's, a gate's answer, the
gateway in a loop, files for the verifier. One VM and one conversation try it all; a second VM is the verifier's.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bot.views import messages
from engine.agents.gateway import Gateway
from engine.agents.replay import Call, ReplayServer, ScriptedModel, Turn, call, say
from engine.agents.work import AgentWork
from engine.domain.agent import AgentEnd, AgentRule, Budget, Guest
from engine.domain.gate import Json
from engine.domain.ports import Ending, SecretValue, TaskResult
from engine.domain.runbook import ArtefactRule, Login, OutputRule, ScriptStep
from engine.domain.states import AttemptState
from engine.runtime.hypervisor import LibvirtHypervisor
from engine.runtime.runners.agent import AgentRunner
from engine.runtime.runners.probe import ProbeRunner
from engine.secrets.redact import Redactor
from tests.doubles import incidents as told
from tests.doubles.agents import MemoryJournal, agent_order, nowhere
from tests.integration.agents.doors import model, proxy
from tests.integration.agents.provider import KEY
from tests.integration.cheating.stage import FOUND, TOOLS, texts
from tests.plugins_vm import Plain

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

SECRET = "the-private-key-of-the-login"
PROGRAM = """\
import json, os, socket, subprocess, urllib.error, urllib.request
PORT, told = %PORT%, {}

def attempt(what):
    try:
        return str(what())[:200]
    except Exception as error:
        return "%s: %s" % (type(error).__name__, error)

def asked(url, body=None, token=""):
    request = urllib.request.Request(url, body, {"Authorization": "Bearer " + token})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return str(answer.status)
    except urllib.error.HTTPError as error:
        return str(error.code)

def put(path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write("#!/bin/sh\\necho held\\n")
    os.chmod(path, 0o755)
    return "written"

click = b'payload={"type":"block_actions","actions":[{"action_id":"approval.approve","value":"token"}]}'
for name, where in (("key", "/run/secrets/key"), ("ssh", "/step/.ssh/config"), ("init", "/proc/1/environ"),
                    ("shadow", "/etc/shadow")):
    told["read " + name] = attempt(lambda: open(where).read())
told["keys there"] = attempt(lambda: os.listdir("/run/secrets"))
for where in ("example.com", "127.0.0.1", "169.254.169.254"):
    told["dial " + where] = attempt(lambda: socket.create_connection((where, PORT), timeout=10) and "connected")
told["click by name"] = attempt(lambda: asked("http://signalbox:%d/slack/interactivity" % PORT, click))
told["click at slack"] = attempt(lambda: asked("http://hooks.slack.com/services/x", click))
told["curl"] = attempt(lambda: subprocess.run(["curl", "-sS", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}",
    "-d", click, "http://signalbox:%d/slack/interactivity" % PORT], capture_output=True, text=True).stdout)
pass_ = json.load(open("/step/.gateway.json"))
told["post a verdict"] = attempt(lambda: asked(pass_["url"], b'{"verdict": "held", "may_proceed": true}', pass_["token"]))
told["in a loop"] = attempt(lambda: " ".join(asked(pass_["url"], None, pass_["token"]) for _ in range(14)))
for name, path in (("program", "/usr/local/bin/df"), ("profile", "/root/.bashrc"), ("tmp", "/tmp/cheat/df"),
                   ("home", "/step/.profile"), ("check", "/step/runbook/verify.sh")):
    told["plant " + name] = attempt(lambda: put(path))
for link, to in (("etc", "/etc"), ("keys", "/run/secrets"), ("up", "/step/runbook")):
    os.symlink(to, "/step/out/" + link)
print(json.dumps(told))
"""
PLANTED = ("/usr/local/bin/df", "/root/.bashrc", "/tmp/cheat/df", "/step/.profile", "/step/runbook/verify.sh")


class Web:
    """Signalbox's own web port, as if: it counts who comes. `port`: of loopback."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        heard = self.heard

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                heard.append(self.path)
                self.send_response(200)
                self.end_headers()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


@dataclass(frozen=True)
class After:
    """What is left of it. `said`: what the program printed of each try; `answers`: what the calls were answered."""

    end: AgentEnd
    result: TaskResult
    said: dict[str, str]
    answers: dict[str, str]
    log: str
    web: list[str]
    conclusion: str

    @property
    def channel(self) -> str:
        """What people see: the attempt's message, and that of the gate that judges it."""
        rows: list[Json] = [asdict(connection) for connection in self.result.connections]
        attempt = replace(told.attempt("staging", AttemptState.FINISHED, 50, stdout=self.log), connections=rows)
        run = told.run()
        run = replace(run, attempts=(run.attempts[0], attempt))
        seen = told.incident(run)
        shown = [messages.attempt(seen, run, attempt, ""), messages.gate(seen, run, run.verdicts[1], "")]
        return "\n".join(texts([list(message.blocks) for message in shown]))


def script(port: int) -> list[Turn | Call]:
    """The program, then the tools by the links that it made, then an honest end."""
    program = PROGRAM.replace("%PORT%", str(port))
    return [
        call("write", {"path": "/step/out/cheat.py", "content": program}, "program"),
        say("", call("run", {"argv": ["python3", "/step/out/cheat.py"], "on": "vm"}, "cheats")),
        say(
            "",
            call("write", {"path": "/step/out/etc/cron.d/x", "content": "owned"}, "write-by-a-link"),
            call("read", {"path": "/step/out/keys/key"}, "read-by-a-link"),
            call("write", {"path": "/step/out/up/verify.sh", "content": "exit 0"}, "edit-the-check-by-a-link"),
            call("run", {"argv": ["cat", "/step/out/keys/key"], "on": "vm"}, "cat-by-a-link"),
            call("run", {"argv": ["signalbox", "gate", "check"], "on": "vm"}, "gate-check"),
            call("run", {"argv": ["signalbox", "gate", "hold"], "on": "vm"}, "gate-hold"),
        ),
        call("finish", FOUND),
    ]


@pytest.fixture(scope="module")
def after(hypervisor: LibvirtHypervisor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[After]:
    """After all of it."""
    web, gateway, journal, redactor = Web(), Gateway(), MemoryJournal(), Redactor()
    redactor.learn("key", SECRET)
    shown: list[str] = []
    ends: list[AgentEnd] = []
    rule = AgentRule(model="careful", budget=Budget(requests=9, tokens=500_000, calls=20), tools=TOOLS)
    order = agent_order(rule, OutputRule(required=("cause",)), attempt_id=f"cheat-{time.monotonic_ns()}", timeout_s=400)
    step = order.leg.step
    assert isinstance(step, ScriptStep)
    step = replace(step, login=Login(user="reader", key="key"), produces=ArtefactRule(name="fix"))
    order = replace(order, leg=replace(order.leg, step=step))
    with ReplayServer(ScriptedModel(script(web.port)), key=KEY) as server:
        entry = model(MODEL_API, server.url, tmp_path_factory.mktemp("model"))
        worker = AgentWork(proxy(entry), lambda: "", gateway=gateway)

        def work(guest: Guest) -> None:
            ends.append(worker.work(order, guest, journal, redactor, shown.append, lambda: False))

        with worker.opened(order, nowhere) as reaches:
            vm = AgentRunner().task(replace(order, reaches=reaches), (SecretValue(name="key", value=SECRET),))
            result = hypervisor.attend(vm, redactor, shown.append, work)
    answers = {record.call.id: record.answer for record in journal.conversation.calls}
    printed = next((line for line in answers["cheats"].splitlines() if line.startswith("{")), answers["cheats"])
    concluded = AgentRunner().conclude(order, replace(result, stdout=json.dumps(ends[0].output) + "\n"))
    yield After(ends[0], result, json.loads(printed), answers, "".join(shown), web.heard, concluded.reason)
    web.close()
    gateway.close()
