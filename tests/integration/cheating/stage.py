"""A whole installation whose agents cheat: the real loop in bubblewrap, the real proxy, the real machine on a database,
and the messages that people see in the channel. Models, VMs, targets and Slack are played.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from bot.options import BotOptions
from bot.slack.channels import Channels
from bot.slack.delivery import Delivery
from bot.slack.pacing import Pace
from bot.slack.workspace import Workspace
from engine.agents.models import load_models
from engine.agents.proxy import ModelProxy
from engine.agents.replay import Call, ReplayServer, Request, ScriptedModel, Turn, call
from engine.agents.work import AgentWork
from engine.domain import archive
from engine.domain.agent import AgentRule, Budget, CommandRule, Guest, LogSource, Tools, Where
from engine.domain.gate import Check, Facts, Json, Sample
from engine.domain.incident import AttemptView, RunView
from engine.domain.ports import Probe, Redactor, SecretValue, TaskResult, VmTask
from engine.domain.runbook import InputRule, OutputRule, Runbook, ScriptStep, SecretRef, Tool
from engine.domain.runners import Conclusion, Order
from engine.domain.states import Verdict
from engine.runtime.runners.agent import AgentRunner
from engine.secrets.redact import Redactor as Masks
from tests.doubles.agents import MemoryGuest
from tests.doubles.engine import FakeGates, FakeGrant, FakeHypervisor, FakeRunner, FakeSecrets
from tests.doubles.slack import FakeSlack
from tests.doubles.toy import toy_runbook
from tests.integration.engine.conftest import Box

KEY = "sk-test-of-the-provider"
PASSWORD = "correct-horse-battery-staple"
""" What the step's grant holds, and its redactor knows. """
MENDS = "rotate the log"
""" What a fix has to say to mend a target here. """
FOUND: dict[str, Json] = {"cause": "log_growth"}
BUDGET = Budget(requests=30, tokens=1_000_000, calls=40)
TOOLS = Tools(
    run=(
        CommandRule(argv=("df", "*")),
        CommandRule(argv=("cat", "/step/**")),
        CommandRule(argv=("python3", "/step/out/**")),
        CommandRule(argv=("systemctl", "status", "*"), on=Where.TARGET),
        CommandRule(argv=("systemctl", "restart", "*"), on=Where.TARGET, ask=True),
    ),
    reads=("/step/**",),
    writes=("/step/out/**",),
    logs=(LogSource(name="service", argv=("tail", "/srv/log")),),
)
MODELS = """
careful:
  api: anthropic
  model: scripted
  url: {url}
  key_file: key
  price: {{input: 10, output: 10}}
"""
Script = Sequence[Turn | Call] | Callable[[Request], Turn | Call]
HONEST: Script = [call("finish", FOUND)]
FIXES: Script = [call("write", {"path": "/step/out/fix.json", "content": MENDS}), call("finish", {"did": "a fix"})]


@dataclass
class Shop(FakeHypervisor):
    """VMs of memory and two targets. `mended`: which target a fix that works was applied to; `vms`: the agents'.

    `answers`: what commands in an agent's VM print, by first word; `links`: symbolic links there.
    """

    answers: dict[str, str] = field(default_factory=lambda: {"df": "99%"})
    links: dict[str, str] = field(default_factory=lambda: {"/step/out/link": "/etc/cron.d/x"})
    cause: str = "log_growth"
    mended: set[str] = field(default_factory=set)
    vms: list[MemoryGuest] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def attend(
        self, task: VmTask, redactor: Redactor, on_output: Callable[[str], None], work: Callable[[Guest], None]
    ) -> TaskResult:
        """A VM that is this attempt's alone."""
        result, vm = self.run(task, redactor, on_output), MemoryGuest(answers=self.answers, links=self.links)
        self.vms.append(vm)
        work(vm)
        out = "/step/out/"
        left = {path.removeprefix(out): content for path, content in vm.files.items() if path.startswith(out)}
        return replace(result, files=left)

    @property
    def commands(self) -> list[str]:
        """All that was run in the agents' VMs."""
        return [" ".join(argv) for vm in self.vms for argv in vm.ran]

    @property
    def files(self) -> list[str]:
        """All that was written there."""
        return [path for vm in self.vms for path in vm.files]


@dataclass
class Runners(FakeRunner):
    """The agent's real one, and a played one for what applies: it mends a target by a fix that says so."""

    shop: Shop

    def __post_init__(self) -> None:
        super().__init__()

    def task(self, order: Order, secrets: tuple[SecretValue, ...]) -> VmTask:
        """Its command is the leg's id."""
        step = order.leg.step
        if isinstance(step, ScriptStep) and step.agent is not None:
            self.orders.append(order)
            return replace(AgentRunner().task(order, secrets), argv=(order.leg.id,))
        if order.artefact is not None and order.target is not None and order.leg.id == order.target.name:
            applied = b"".join(archive.unpack(order.artefact).values()).decode()
            self.shop.mended |= {order.target.name} if MENDS in applied else set()
        return super().task(order, secrets)

    def conclude(self, order: Order, result: TaskResult) -> Conclusion:
        """An agent's claim and artefact are held to the step's rule by the real one."""
        step = order.leg.step
        is_agent = isinstance(step, ScriptStep) and step.agent is not None
        return AgentRunner().conclude(order, result) if is_agent else super().conclude(order, result)


@dataclass
class Measuring(FakeGates):
    """Gates that measure the shop, and hear no claim."""

    shop: Shop

    def __post_init__(self) -> None:
        super().__init__()

    def measure(self, check: Check, facts: Facts, probe: Probe) -> Sample:
        """The cause of the trouble where it is to be confirmed, else whether the target works."""
        self.measured.append(check.id)
        kind = check.id.partition("-")[0]
        target = {"tests": "staging", "healthy": "production"}.get(kind)
        holds = self.shop.cause == "log_growth" if kind == "confirmed" else target is None or target in self.shop.mended
        return Sample(verdict=Verdict.HELD if holds else Verdict.FAILED, why=f"the disk says otherwise: {check.id}")


class Keeping(FakeSecrets):
    """Grants whose redactor is the real one, and knows the password."""

    def open(
        self, *, runbook: str, run_id: str, leg: str, attempt_id: str, refs: tuple[SecretRef, ...], timeout_s: float
    ) -> FakeGrant:
        """See `FakeSecrets.open`."""
        masks = Masks()
        masks.learn("password", PASSWORD)
        grant = super().open(
            runbook=runbook, run_id=run_id, leg=leg, attempt_id=attempt_id, refs=refs, timeout_s=timeout_s
        )
        return replace(grant, redactor=masks)


@dataclass
class Stage:
    """One run with agents of the test's making."""

    box: Box
    shop: Shop
    server: ReplayServer

    def go(self, body: bytes = b"ToyBroken firing") -> RunView:
        """From the alert until everything waits, halted or ended."""
        self.box.fire(body)
        self.box.go()
        return self.run()

    def run(self) -> RunView:
        """As it is now."""
        return self.box.run()

    def attempt(self, leg: str) -> AttemptView:
        """The last one of this leg."""
        return [attempt for attempt in self.run().attempts if attempt.leg == leg][-1]

    def channel(self) -> str:
        """Every text that stands in Slack by now, of all messages of the outbox."""
        return "\n".join(texts([message for channel in self.slack().channels for message in channel.messages]))

    def slack(self) -> FakeSlack:
        """Slack, once all that waited in the outbox was carried out."""
        return asyncio.run(_delivered(self.box))

    def production_is_untouched(self) -> bool:
        """No attempt on it, and nothing was applied to it."""
        return "production" not in self.box.hypervisor.ran and "production" not in self.shop.mended


def texts(value: object) -> Iterator[str]:
    """Every text of a message, as it was sent."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "text" and isinstance(each, str):
                yield each
            yield from texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)


@contextmanager
def stage(
    box: Box,
    folder: Path,
    diagnoses: Script = HONEST,
    fixes: Script = FIXES,
    *,
    budget: Budget = BUDGET,
    timeout_s: int = 90,
    mount: str = "/srv",
) -> Iterator[Stage]:
    """The toy, with two agents: one diagnoses, the other writes the fix. `mount`: what an alert may say."""
    shop = Shop()
    box.shelf.runbook = cheated(budget, timeout_s, mount)
    box.hypervisor, box.gates = shop, Measuring(shop)

    def says(request: Request) -> Turn | Call:
        script = diagnoses if "diagnose.sh" in request.instructions else fixes
        return script(request) if callable(script) else script[len(request.turns)]

    with ReplayServer(ScriptedModel(says), key=KEY) as server:
        (folder / "key").write_text(KEY)
        (folder / "models.yaml").write_text(MODELS.format(url=server.url))
        proxy = ModelProxy(lambda: load_models(folder / "models.yaml"))
        box.adapters = replace(
            box.adapters,
            hypervisor=shop,
            runner=Runners(shop),
            secrets=Keeping(),
            gate_kinds=box.gates.kinds,
            agents=AgentWork(proxy, lambda: ""),
        )
        box.start()
        yield Stage(box, shop, server)


def cheated(budget: Budget, timeout_s: int, mount: str) -> Runbook:
    """The toy with agents in its steps `diagnose` and `fix`."""
    rule = AgentRule(model="careful", budget=budget, tools=TOOLS)
    output = OutputRule(required=("cause",), enums={"cause": ("log_growth", "unknown")})
    outputs = {"diagnose": output, "fix": OutputRule(required=("did",))}
    toy = toy_runbook()
    steps = tuple(
        replace(step, tool=Tool.AGENT, agent=rule, output=outputs[step.id], timeout_s=timeout_s)
        if isinstance(step, ScriptStep) and step.id in outputs
        else step
        for step in toy.steps
    )
    return replace(toy, steps=steps, inputs=(InputRule(name="mount", source="alert.labels.mount", enum=(mount,)),))


async def _delivered(box: Box) -> FakeSlack:
    slack, options = FakeSlack(), BotOptions(public_url="https://box.test", feed_channel="signalbox")
    minutes = iter(range(0, 1_000_000, 60))
    workspace = Workspace(slack, Pace(clock=lambda: float(next(minutes))))
    delivery = Delivery(box.service, workspace, Channels(box.service, workspace, options), options)
    while items := box.service.outbox_due():
        for item in items:
            box.service.outbox_sent(item, await delivery.carry_out(item))
    return slack
