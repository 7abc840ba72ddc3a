"""Adapters for tests of the engine alone: each is a small real implementation of its port, with knobs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import get_args

from engine.domain.agent import Guest
from engine.domain.alert import Alert, AlertStatus, Delivery
from engine.domain.digest import of_bytes, snapshot_digest
from engine.domain.directory import Directory
from engine.domain.errors import BadInput, SignalboxError, Unauthenticated
from engine.domain.gate import Check, DigestCheck, Facts, Sample
from engine.domain.harness import NoteDraft
from engine.domain.incident import IncidentView
from engine.domain.journey import Journey
from engine.domain.ports import Ending, GateKinds, Probe, RedactingStream, Redactor, SecretValue, TaskResult, VmTask
from engine.domain.runbook import (
    Runbook,
    ScriptStep,
    SecretRef,
    Snapshot,
)
from engine.domain.runners import Conclusion, Order
from engine.domain.states import Verdict
from tests.doubles.played_agents import FakeGuest
from tests.doubles.toy import T0, alert, toy_runbook


class FakeClock:
    """Time that moves only when told to, or when somebody sleeps."""

    def __init__(self) -> None:
        self._now = T0

    def now(self) -> datetime:
        self._now += timedelta(milliseconds=1)
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)

    def pass_time(self, **how_much: float) -> None:
        self._now += timedelta(**how_much)


class FakeShelf:
    """One runbook in memory. `source` is what is 'on disk': change it to tamper with the file."""

    def __init__(self, runbook: Runbook | None = None) -> None:
        self.runbook = runbook or toy_runbook()
        self.source = "the toy runbook, as reviewed"
        self.files = {name: name.encode() for name in ("diagnose.sh", "fix.sh", "apply.sh", "undo.sh")}

    def names(self) -> tuple[str, ...]:
        return (self.runbook.name,)

    def valid(self) -> tuple[str, ...]:
        return self.names()

    def read(self, name: str) -> Snapshot:
        if name != self.runbook.name:
            raise BadInput(f"there is no runbook {name!r}")
        return self.restore(self.source, self.files)

    def restore(self, source: str, files: Mapping[str, bytes]) -> Snapshot:
        kept = dict(files)
        return Snapshot(runbook=self.runbook, source=source, files=kept, digest=snapshot_digest(source, kept))

    def matching(self, alert: Alert) -> tuple[str, ...]:
        return (self.runbook.name,) if alert.name in self.runbook.alertnames else ()


@dataclass(frozen=True)
class PlainRedactor:
    """Masks one word; none, for tests that do not speak of secrets."""

    word: str = ""

    def __call__(self, text: str) -> str:
        return text.replace(self.word, "***") if self.word else text

    def stream(self) -> RedactingStream:
        raise AssertionError("the fake hypervisor streams nothing")


@dataclass(frozen=True)
class FakeGrant:
    """A grant that remembers that it was closed."""

    log: list[str]
    attempt_id: str
    values: tuple[SecretValue, ...] = ()
    redactor: Redactor = field(default_factory=PlainRedactor)
    broken: bool = False

    def close(self) -> None:
        self.log.append(f"closed {self.attempt_id}")
        if self.broken:
            raise SignalboxError("the token still answers")


class FakeSecrets:
    """Grants without a Vault. `down`: raised by `reachable` and `open`."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.down: SignalboxError | None = None
        self.broken_close = False
        self.masks = ""
        self.when_asked: Callable[[], None] = lambda: None

    def open(
        self, *, runbook: str, run_id: str, leg: str, attempt_id: str, refs: tuple[SecretRef, ...], timeout_s: float
    ) -> FakeGrant:
        if self.down is not None:
            raise self.down
        self.log.append(f"opened {attempt_id}")
        redactor = PlainRedactor(self.masks)
        values = tuple(SecretValue(name=ref.name, value=f"what is at {ref.path}") for ref in refs)
        return FakeGrant(self.log, attempt_id, values, redactor=redactor, broken=self.broken_close)

    def redactor(self) -> Redactor:
        return PlainRedactor()

    def revoke_run(self, run_id: str) -> None:
        self.log.append(f"revoked run {run_id}")

    def recover(self, accessors: Collection[str]) -> None:
        self.log.extend(f"recovered {accessor}" for accessor in accessors)

    def reachable(self) -> None:
        self.when_asked()
        if self.down is not None:
            raise self.down


class FakeRunner:
    """The leg's id is the command; what comes back is what the fake hypervisor says."""

    version = "fake/1"

    def __init__(self) -> None:
        self.orders: list[Order] = []

    def task(self, order: Order, secrets: tuple[SecretValue, ...]) -> VmTask:
        self.orders.append(order)
        return VmTask(id=order.attempt_id, run_id=order.run_id, image="step", argv=(order.leg.id,), timeout_s=60)

    def conclude(self, order: Order, result: TaskResult) -> Conclusion:
        ok = result.ending is Ending.EXITED and result.code == 0
        step = order.leg.step.id
        output = {"cause": "log_growth"} if step == "diagnose" and ok else None
        artefact = b"the fix" if step == "fix" and ok else None
        return Conclusion(ok=ok, reason=result.reason, output=output, artefact=artefact)  # type: ignore[arg-type]

    def content(self, step: ScriptStep, artefact: bytes) -> str:
        return of_bytes(artefact)

    def preview(self, step: ScriptStep, artefact: bytes) -> str:
        return artefact.decode()


class FakeProbeRunner:
    """Never used: the fake gate kinds measure without a VM."""

    def task(self, **_: object) -> VmTask:
        raise AssertionError("no probe is expected here")


class FakeHypervisor:
    """Runs nothing. `prints[leg]` is heard, `behaviour[leg]` called instead; `image`: what the image is made of."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.behaviour: dict[str, Callable[[], TaskResult]] = {}
        self.prints: dict[str, tuple[str, ...]] = {}
        self.image = b"the image"
        self.down: SignalboxError | None = None
        self.short = ""
        self.destroyed: list[str] = []
        self.lock = threading.Lock()
        self.guest = FakeGuest()

    def attend(
        self, task: VmTask, redactor: Redactor, on_output: Callable[[str], None], work: Callable[[Guest], None]
    ) -> TaskResult:
        result = self.run(task, redactor, on_output)
        if result.ending is not Ending.NOT_BEGUN:
            work(self.guest)
        return result

    def run(self, task: VmTask, redactor: Redactor, on_output: Callable[[str], None]) -> TaskResult:
        with self.lock:
            self.ran.append(task.argv[0])
        for text in self.prints.get(task.argv[0], ()):
            on_output(text)
        return self.behaviour.get(task.argv[0], ended)()

    def destroy(self, task_id: str) -> bool:
        self.destroyed.append(task_id)
        return True

    def sweep(self, living: Callable[[], Collection[str]] = tuple) -> tuple[str, ...]:
        if self.down is not None:
            raise self.down
        return ()

    def destroy_all_of(self, run_id: str) -> tuple[str, ...]:
        if self.down is not None:
            raise self.down
        return ()

    def image_digest(self, image: str) -> str:
        return of_bytes(self.image)

    def reachable(self) -> None:
        if self.down is not None:
            raise self.down

    def shortage(self) -> str:
        return self.short


def ended(ending: Ending = Ending.EXITED, code: int | None = 0, reason: str = "") -> TaskResult:
    """A task's result."""
    return TaskResult(ending=ending, code=code, stdout="", stderr="", truncated=False, reason=reason, seconds=0.1)


class FakeGates:
    """Gate kinds whose checks hold unless told otherwise, by check id; digest checks are really compared."""

    def __init__(self) -> None:
        self.verdicts: dict[str, Verdict] = {}
        self.measured: list[str] = []
        self.told: dict[str, Facts] = {}
        self.before_each: Callable[[str], None] = lambda _check_id: None

    def kinds(self, _directory: Directory) -> GateKinds:
        types = (member.__dataclass_fields__["type"].default for member in get_args(Check))
        return {**dict.fromkeys(types, self.measure), "digest": self.digest}

    def measure(self, check: Check, facts: Facts, probe: Probe) -> Sample:
        self.before_each(check.id)
        self.measured.append(check.id)
        self.told[check.id] = facts
        return Sample(verdict=self.verdicts.get(check.id, Verdict.HELD), why=f"measured {check.id}")

    def digest(self, check: Check, facts: Facts, probe: Probe) -> Sample:
        assert isinstance(check, DigestCheck)
        one, other = facts.digests.get(check.of), facts.digests.get(check.equals)
        same = one is not None and one == other
        return Sample(verdict=Verdict.HELD if same else Verdict.FAILED, why=f"{one} and {other}")


class FakeTrigger:
    """Bodies are `NAME STATUS KEY`; the token is `token`."""

    name = "fake"
    max_bytes = 1000

    def verify(self, headers: Mapping[str, str], body: bytes) -> Delivery:
        if headers.get("authorization") != "Bearer token":
            raise Unauthenticated("wrong token")
        return Delivery(source=self.name, key=body.decode(), body=body, group=body.decode().split()[0])

    def parse(self, body: bytes) -> tuple[Alert, ...]:
        name, _, rest = body.decode().partition(" ")
        status, _, mount = rest.partition(" ")
        if status not in {"firing", "resolved"}:
            raise BadInput("no such status")
        return (alert(name=name, status=AlertStatus(status), mount=mount or "/srv"),)


class FakeHarness:
    """A harness that always has a patch."""

    def number(self, at_least: int) -> int:
        return at_least

    def patch(self, note: NoteDraft, incident: IncidentView, journey: Journey) -> str:
        return f"a patch for {note.rule}"
