"""Everything outside the machine, played: VMs, gates, secrets, the source, time. Called by `stage`.

Each is a small real implementation of its port. What the next VM does and what the next gate finds is chosen before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from engine.domain import template
from engine.domain.agent import Guest
from engine.domain.alert import Alert, AlertStatus, Delivery, Severity
from engine.domain.digest import of_bytes, of_value, snapshot_digest
from engine.domain.directory import Address, Directory, Site
from engine.domain.errors import BadInput, Unavailable
from engine.domain.gate import Check, Facts, QuorumCheck, Sample
from engine.domain.ports import Ending, GateKinds, Probe, RedactingStream, Redactor, SecretValue, TaskResult, VmTask
from engine.domain.runbook import PER_TARGET, Runbook, ScriptStep, SecretRef, Snapshot
from engine.domain.runners import Conclusion, Order
from engine.domain.states import Verdict
from engine.domain.within import measured
from engine.gates import digest
from engine.simulation.agents import NoGuest, said_by
from engine.simulation.ledger import Course, Ledger

SOURCE = "simulated"
BEGINS = datetime(2026, 1, 1, tzinfo=UTC)
IMAGE = "as it was"
NOWHERE = Address(host="192.0.2.1", port=9)
""" https://www.rfc-editor.org/rfc/rfc5737: an address of nobody. """


class Crash(BaseException):
    """The process is gone: nothing after it runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """What happens to the work that comes next.

    `crash`: the process dies before the command began, or after it did its work (of a gate: while it measures).
    `meanwhile`: what somebody does while it is under way. `asks`: an agent comes to a call that takes a yes.
    """

    ending: Ending = Ending.EXITED
    code: int = 0
    check: str = ""
    verdict: Verdict = Verdict.HELD
    crash: str = ""
    asks: bool = False
    meanwhile: Callable[[], object] | None = None


@dataclass(slots=True)
class SimulatedClock:
    """Time passes when somebody sleeps, or when it is told to."""

    moment: datetime = BEGINS

    def now(self) -> datetime:
        """A little later at each look."""
        self.moment += timedelta(milliseconds=1)
        return self.moment

    def sleep(self, seconds: float) -> None:
        """At once."""
        self.moment += timedelta(seconds=seconds)


@dataclass(slots=True)
class Outside:
    """The world of one simulation. `worked`: called when a command or a gate is under way, so that the run stops there.

    `did`: the attempt or the gate that was under way last; empty when none was since it was set. `where`: the leg
    where the run stands.
    """

    snapshot: Snapshot
    course: Course
    inputs: Mapping[str, str]
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    ledger: Ledger = field(default_factory=Ledger)
    image: str = IMAGE
    edited: bool = False
    will: Will = field(default_factory=Will)
    samples: list[tuple[Check, Verdict]] = field(default_factory=list)
    contents: dict[str, str] = field(default_factory=dict)
    did: str = ""
    worked: Callable[[], None] = lambda: None
    where: Callable[[], str] = lambda: ""

    def alert(self, status: AlertStatus) -> Alert:
        """The alert that starts the runbook, or its end."""
        given: dict[str, dict[str, str]] = {"labels": {}, "annotations": {}}
        for rule in self.snapshot.runbook.inputs:
            _, group, name = rule.source.split(".", 2)
            given[group][name] = self.inputs[rule.name]
        severities = self.snapshot.runbook.severities
        return Alert(
            source=SOURCE,
            fingerprint="simulated",
            name=self.snapshot.runbook.alertnames[0],
            status=status,
            severity=Severity(severities[0]) if severities else Severity.CRITICAL,
            title=self.snapshot.runbook.title,
            labels=given["labels"],
            annotations=given["annotations"],
            starts_at=BEGINS - timedelta(minutes=1),
            ends_at=self.clock.now() if status is AlertStatus.RESOLVED else None,
            group_key="simulated",
        )


# -- the shelf and the source


@dataclass(frozen=True, slots=True)
class SimulatedShelf:
    """The one runbook; somebody may have edited what lies on disk."""

    outside: Outside

    def names(self) -> tuple[str, ...]:
        """The one."""
        return (self.outside.snapshot.runbook.name,)

    def valid(self) -> tuple[str, ...]:
        """It was linted before."""
        return self.names()

    def read(self, name: str) -> Snapshot:  # noqa: ARG002 - there is one
        """What is on disk now."""
        known = self.outside.snapshot
        if not self.outside.edited:
            return known
        source = f"{known.source}\n# edited"
        return Snapshot(
            runbook=known.runbook, source=source, files=known.files, digest=snapshot_digest(source, known.files)
        )

    def restore(self, source: str, files: Mapping[str, bytes]) -> Snapshot:
        """What a run stored, when it is what this simulation is about."""
        known = self.outside.snapshot
        if (source, dict(files)) != (known.source, dict(known.files)):
            raise BadInput("the stored runbook is another")
        return known

    def matching(self, alert: Alert) -> tuple[str, ...]:
        """The one, if its trigger takes the alert."""
        runbook = self.outside.snapshot.runbook
        return (runbook.name,) if alert.name in runbook.alertnames else ()


@dataclass
class SimulatedSource:
    """A body is the word `firing` or `resolved`."""

    outside: Outside
    name: str = SOURCE
    max_bytes: int = 100

    def verify(self, headers: Mapping[str, str], body: bytes) -> Delivery:  # noqa: ARG002 - the port has it
        """Everybody is who they say they are."""
        return Delivery(source=SOURCE, key=body.decode(), body=body, group=SOURCE)

    def parse(self, body: bytes) -> tuple[Alert, ...]:
        """The one alert."""
        return (self.outside.alert(AlertStatus(body.decode())),)


def directory(runbook: Runbook, inputs: Mapping[str, str]) -> Directory:
    """Every host and port that the runbook names."""
    ports: dict[str, dict[int, Address]] = {target.host: {} for target in runbook.targets.values()}
    for step in runbook.steps:
        for endpoint in step.grant.network if isinstance(step, ScriptStep) else ():
            for target in runbook.targets.values():
                values = {"name": target.name, "host": target.host, "port": str(target.port)}
                host = template.fill(endpoint.host, {"inputs": inputs, "target": values})
                ports.setdefault(host, {})[endpoint.port] = NOWHERE
    return Directory(sites={host: Site(name=host, ports=known, ssh_host_key="none") for host, known in ports.items()})


# -- VMs and their secrets


@dataclass
class SimulatedRunner:
    """The leg's id is the command. What a step prints and produces is made up, within what it declares."""

    outside: Outside
    version: str = "simulated/1"

    def task(self, order: Order, secrets: tuple[SecretValue, ...]) -> VmTask:  # noqa: ARG002 - the port has it
        """Remembers what this attempt applies, worked out from what it was really given."""
        script = order.leg.script
        self.outside.contents[order.attempt_id] = of_value(
            {
                "artefact": self._content(order),
                "script": of_bytes(order.snapshot.files[script.file]) if script else None,
                "args": list(script.args) if script else [],
                "image": self.outside.image,
            }
        )
        return VmTask(id=order.attempt_id, run_id=order.run_id, image="step", argv=(order.leg.id,), timeout_s=60)

    def conclude(self, order: Order, result: TaskResult) -> Conclusion:
        """The exit code decides."""
        ok = result.ending is Ending.EXITED and result.code == 0
        step = order.leg.step
        if not ok or not isinstance(step, ScriptStep):
            return Conclusion(ok=False, reason=result.reason)
        artefact = f"the artefact of {step.id}".encode() if step.produces else None
        return Conclusion(ok=True, reason="", output=said_by(step), artefact=artefact)

    def _content(self, order: Order) -> str | None:
        step = order.leg.step
        if order.artefact is None or not isinstance(step, ScriptStep):
            return None
        return self.content(step, order.artefact) if step.tool in PER_TARGET else of_bytes(order.artefact)

    def content(self, step: ScriptStep, artefact: bytes) -> str:  # noqa: ARG002 - the port has it
        """Plans of one configuration are for the same change."""
        return of_value([step.tool, step.script.file])

    def preview(self, step: ScriptStep, artefact: bytes) -> str:  # noqa: ARG002 - the port has it
        """As it is."""
        return artefact.decode()


class SimulatedProbeRunner:
    """Never used: gates find what was chosen."""

    def task(self, **_: object) -> VmTask:
        """Raises Unavailable."""
        raise Unavailable("nothing is probed in a simulation")


@dataclass(frozen=True, slots=True)
class SimulatedVms:
    """A VM that does what was chosen, and is gone at once."""

    outside: Outside

    def run(self, task: VmTask, redactor: Redactor, on_output: Callable[[str], None]) -> TaskResult:  # noqa: ARG002
        """See `Hypervisor`."""
        outside, will = self.outside, self.outside.will
        outside.worked()
        outside.did = task.argv[0]
        if will.crash == "before":
            raise Crash
        if will.ending is Ending.NOT_BEGUN:
            raise Unavailable("no VM can be had")
        course, content = outside.course, outside.contents[task.id]
        leg = course.leg(task.argv[0])
        outside.ledger = outside.ledger.worked(course, leg, content, outside.image, outside.clock.now())
        if will.crash:
            raise Crash
        if will.meanwhile is not None:
            will.meanwhile()
        if will.ending is Ending.EXITED and will.code == 0:
            outside.ledger = outside.ledger.finished(course, leg, content)
        code = will.code if will.ending is Ending.EXITED else None
        reason = "" if will.ending is Ending.EXITED and not code else f"it {will.ending}".replace("_", " ")
        return TaskResult(
            ending=will.ending, code=code, stdout="", stderr="", truncated=False, reason=reason, seconds=1
        )

    def attend(
        self, task: VmTask, redactor: Redactor, on_output: Callable[[str], None], work: Callable[[Guest], None]
    ) -> TaskResult:
        """See `Attends`: what was chosen happens to an agent's step as to any other; it works if the VM lives."""
        will = self.outside.will
        if will.ending is Ending.EXITED and will.code == 0 and will.crash != "before":
            work(NoGuest())
        return self.run(task, redactor, on_output)

    def destroy(self, task_id: str) -> bool:  # noqa: ARG002 - the port has it
        """None lives."""
        return False

    def sweep(self, living: Callable[[], Collection[str]] = tuple) -> tuple[str, ...]:  # noqa: ARG002 - as above
        """None lives."""
        return ()

    def destroy_all_of(self, run_id: str) -> tuple[str, ...]:  # noqa: ARG002 - as above
        """None lives."""
        return ()

    def image_digest(self, image: str) -> str:
        """The same until somebody builds it anew."""
        return of_bytes(f"{image} {self.outside.image}".encode())

    def reachable(self) -> None:
        """Always."""

    def shortage(self) -> str:
        """Never."""
        return ""


@dataclass(frozen=True, slots=True)
class AsItIs:
    """Nothing is secret here."""

    def __call__(self, text: str) -> str:
        return text

    def stream(self) -> RedactingStream:
        """Raises Unavailable."""
        raise Unavailable("nothing is streamed in a simulation")


@dataclass(frozen=True, slots=True)
class NoGrant:
    """A grant without values."""

    values: tuple[SecretValue, ...] = ()
    redactor: Redactor = field(default_factory=AsItIs)

    def close(self) -> None:
        """There was nothing."""


class SimulatedSecrets:
    """Secrets that are no words."""

    def open(
        self, *, runbook: str, run_id: str, leg: str, attempt_id: str, refs: tuple[SecretRef, ...], timeout_s: float
    ) -> NoGrant:
        """See `Secrets`."""
        del runbook, run_id, leg, attempt_id, refs, timeout_s
        return NoGrant()

    def redactor(self) -> AsItIs:
        """See `Secrets`."""
        return AsItIs()

    def revoke_run(self, run_id: str) -> None:
        """Nothing was minted."""

    def recover(self, accessors: Collection[str]) -> None:
        """Nothing was minted."""

    def reachable(self) -> None:
        """Always."""


# -- gates


@dataclass(frozen=True, slots=True)
class SimulatedGates:
    """Checks that hold but for the chosen one; digests are really compared."""

    outside: Outside

    def kinds(self, directory: Directory) -> GateKinds:  # noqa: ARG002 - the port has it
        """A kind for every type that the runbook has."""
        course = self.outside.course
        legs = (*course.line, *course.undoing)
        return {check.type: self.measure for leg in legs for check in measured(leg.checks)}

    def measure(self, check: Check, facts: Facts, probe: Probe) -> Sample:
        """See `Measure`."""
        outside, will = self.outside, self.outside.will
        if self._is_control(check):
            return Sample(verdict=Verdict.HELD, why="a control sees what is there")
        outside.worked()
        outside.did = outside.did or outside.where()
        if will.crash:
            raise Crash
        if will.meanwhile is not None and not outside.samples:
            will.meanwhile()
        sample = Sample(verdict=Verdict.HELD, why="chosen")
        if check.type == "digest":
            sample = digest.measure(check, facts, probe)
        if will.check in {check.id, self._quorum_of(check)}:
            sample = Sample(verdict=will.verdict, why="chosen")
        outside.samples.append((check, sample.verdict))
        return sample

    def _is_control(self, check: Check) -> bool:
        return any(check == getattr(one, "control", None) for one in measured(self._checks()))

    def _quorum_of(self, check: Check) -> str:
        """The quorum that a check belongs to: all of its members go as the quorum is chosen to go."""
        quorums = (one for one in self._checks() if isinstance(one, QuorumCheck))
        return next((one.id for one in quorums if check in measured((one,))), "")

    def _checks(self) -> list[Check]:
        course = self.outside.course
        return [check for leg in (*course.line, *course.undoing) for check in leg.checks]
