"""Making an attempt and measuring a gate: what happens between two boundaries, outside any transaction."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field

import structlog

from engine.coordination import judging, orders
from engine.coordination.boundary import AttemptWork, GateWork
from engine.coordination.results import Ended
from engine.domain.databases import DatabaseAccess
from engine.domain.errors import BadInput, Refused, SignalboxError
from engine.domain.gate import GateResult, Sample
from engine.domain.ports import Ending, OpenGrant, ProbeAnswer, Redactor, TaskResult, VmTask
from engine.domain.runbook import Grant, Snapshot
from engine.domain.runners import Conclusion, Order
from engine.domain.states import Verdict
from engine.orchestration.adapters import Adapters
from engine.orchestration.agents import Attended, Attending, attending
from engine.orchestration.conversation import Conversations
from engine.orchestration.live import LiveLog
from engine.store.ids import new_id

log = structlog.get_logger()

END_NOT_SEEN = frozenset({Ending.VM_LOST, Ending.CANCELLED, Ending.TIMED_OUT, Ending.SIGNALLED})
""" The command had begun and nobody saw its own end: what a change did is unknown. """
EXIT_OF_SSH_ITSELF = 255
KEPT_CHARACTERS = 64_000


@dataclass(slots=True)
class Running:
    """Which runs are worked for here, and which VM works for which right now, so that abandoning can destroy it."""

    adapters: Adapters
    _at_work: dict[str, int] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _tasks: dict[str, str] = field(default_factory=dict)
    _stopped: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, run_id: str, task_id: str) -> bool:
        """A VM is about to work for this run; False when the run was stopped meanwhile."""
        with self._lock:
            self._tasks[run_id] = task_id
            return run_id not in self._stopped

    def end(self, run_id: str) -> None:
        """It is gone."""
        with self._lock:
            self._tasks.pop(run_id, None)

    def enter(self, run_id: str) -> None:
        """This run is taken up: what stopped it before does not count any more."""
        with self._lock:
            self._stopped.discard(run_id)

    @contextlib.contextmanager
    def work(self, run_id: str) -> Iterator[None]:
        """While this lasts, an attempt of the run is made or a gate of it measured."""
        with self._lock:
            self._at_work[run_id] = next(self._numbers)
        try:
            yield
        finally:
            with self._lock:
                del self._at_work[run_id]

    def at_work(self) -> dict[str, int]:
        """The runs for which something is done right now under our claim, each with a number that no other work has.

        Fewer than those that are driven: the claim is written with the first boundary, and given up with the last.
        """
        with self._lock:
            return dict(self._at_work)

    def is_stopped(self, run_id: str) -> bool:
        """Whether this run was stopped from outside."""
        with self._lock:
            return run_id in self._stopped

    def stop(self, run_id: str, work: int | None = None) -> None:
        """Destroy whatever VM works for this run, and let none begin any more.

        `work`: only if that is what is done for it still (`at_work`).
        """
        with self._lock:
            if work is not None and self._at_work.get(run_id) != work:
                return
            self._stopped.add(run_id)
            task_id = self._tasks.get(run_id)
        if task_id is None:
            return
        try:
            self.adapters.hypervisor.destroy(task_id)
        except SignalboxError as error:  # libvirt is away: the VM ends itself when its time is over
            log.warning("a VM could not be destroyed at once", run=run_id, task=task_id, why=str(error))

    def stop_all(self) -> None:
        """Destroy every VM that works for us, all at once: our claims are about to end."""
        run_ids = tuple(self.at_work())
        threads = [threading.Thread(target=self.stop, args=(run_id,), daemon=True) for run_id in run_ids]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


@dataclass(frozen=True, slots=True, kw_only=True)
class Performer:
    """Does the work of one run, with the adapters, for a snapshot of its runbook."""

    adapters: Adapters
    running: Running
    snapshot: Snapshot
    live_log: LiveLog
    conversations: Conversations
    may_go: Callable[[], bool]

    def attempt(self, work: AttemptWork) -> Ended:
        """Make an attempt in its own VM, with secrets of its own that are dead when this returns.

        Never raises for what goes wrong with it: it comes back as Ended. A secret that cannot be proved dead makes it
        not ok.
        """
        step = work.plan.step
        try:
            grant = self.adapters.secrets.open(
                runbook=self.snapshot.runbook.name,
                run_id=work.run_id,
                leg=work.plan.leg.id,
                attempt_id=work.attempt_id,
                refs=step.grant.secrets,
                timeout_s=step.timeout_s,
            )
        except SignalboxError as error:
            return _not_begun(work, error)
        try:
            ended = self._in_a_vm(work, grant)
        except SignalboxError as error:
            ended = _not_begun(work, error)
        finally:
            failure = _close(grant)
        if not failure:
            return ended
        return dataclasses.replace(ended, ok=False, reason=f"{failure}; {ended.reason}", asked=None)

    def _in_a_vm(self, work: AttemptWork, grant: OpenGrant) -> Ended:
        agent, order = attending(self.adapters, work.plan.step), self._order(work)
        if agent is None:
            return self._carried_out(work, order, None, grant)
        with agent.opened(order, lambda: self.conversations.standing(order.run_id, self.snapshot)) as opened:
            return self._carried_out(work, opened, agent, grant)

    def _carried_out(self, work: AttemptWork, order: Order, agent: Attending | None, grant: OpenGrant) -> Ended:
        task = self.adapters.runner.task(order, grant.values)
        if not self.running.begin(work.run_id, task.id):
            return Ended(attempt_id=work.attempt_id, ok=False, unknown=False, reason="the run was stopped")
        try:
            if not self.may_go():  # the last look: a kill switch, a claim that ended, a run that somebody ended
                return Ended(
                    attempt_id=work.attempt_id, ok=False, unknown=False, reason="it was stopped before it began"
                )
            with self.live_log.of(work.attempt_id, grant.redactor) as on_output:
                if agent is None:
                    result = self.adapters.hypervisor.run(task, grant.redactor, on_output)
                else:
                    attended = self._attended(agent, order, task, grant.redactor, on_output)
                    result = attended.result
        finally:
            self.running.end(work.run_id)
        if agent is not None and not attended.has_output:
            return _without_output(work, attended, grant.redactor)
        return self._concluded(work, order, result, grant)

    def _order(self, work: AttemptWork) -> Order:
        plan = work.plan
        return Order(
            attempt_id=work.attempt_id,
            run_id=work.run_id,
            leg=plan.leg,
            snapshot=self.snapshot,
            args=plan.args,
            inputs=work.inputs,
            claims=work.claims,
            target=plan.target,
            site=plan.site,
            reaches=plan.reaches,
            artefact=work.artefact,
        )

    def _attended(
        self, agent: Attending, order: Order, task: VmTask, redactor: Redactor, on_output: Callable[[str], None]
    ) -> Attended:
        journal = self.conversations.of(run_id=order.run_id, leg=order.leg.id, attempt_id=order.attempt_id)
        return agent.attempt(order, task, journal, redactor, on_output, lambda: self.running.is_stopped(order.run_id))

    def _concluded(self, work: AttemptWork, order: Order, result: TaskResult, grant: OpenGrant) -> Ended:
        conclusion = self.adapters.runner.conclude(order, result)
        if conclusion.artefact is not None and _holds_a_secret(conclusion.artefact, grant.redactor):
            reason = "the artefact holds a secret, or what looks like one; it was not kept"
            conclusion = Conclusion(ok=False, reason=reason)
        return Ended(
            attempt_id=work.attempt_id,
            ok=conclusion.ok,
            unknown=result.ending in END_NOT_SEEN and not conclusion.ok,
            reason=grant.redactor(conclusion.reason),
            stdout=result.stdout[-KEPT_CHARACTERS:],
            stderr=result.stderr[-KEPT_CHARACTERS:],
            output=conclusion.output,
            artefact=conclusion.artefact,
            connections=tuple(asdict(connection) for connection in result.connections),
        )

    def gate(self, work: GateWork) -> GateResult:
        """Measure a gate. Each command runs in a VM of its own, with the verifier's credentials."""
        try:
            kinds = self.adapters.gate_kinds(self.adapters.directory())
        except SignalboxError as error:
            why = str(error)
            kinds = {check.type: lambda *_: Sample(verdict=Verdict.ERROR, why=why) for check in work.leg.checks}
        return judging.judge(
            work.leg,
            work.facts,
            kinds,
            Verifier(self.adapters, self.running, self.snapshot, work.run_id),
            self.adapters.clock,
            lambda: self.running.is_stopped(work.run_id),
            self.adapters.secrets.redactor(),
        )


@dataclass(slots=True)
class Verifier:
    """Who measures for one gate of one run, with credentials of its own: a `Probe`, and a `DatabaseProbe`."""

    adapters: Adapters
    running: Running
    snapshot: Snapshot
    run_id: str
    _id: str = field(default_factory=new_id)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def __call__(self, target: str, argv: tuple[str, ...], timeout_s: float) -> ProbeAnswer:
        """A command on the target, in a VM of its own."""
        try:
            return self._ask(self._next(), target, argv, timeout_s)
        except SignalboxError as error:
            return _not_run(str(error))

    @contextlib.contextmanager
    def database(self, target: str, timeout_s: float) -> Iterator[DatabaseAccess]:
        """See `ports.DatabaseProbe`."""
        login = self.snapshot.runbook.targets[target].database
        if login is None:
            raise BadInput(f"target {target} has no `database`", "say in the runbook how the verifier enters it")
        grant = self._open(self._next(), target, login.grant, timeout_s)
        failure = ""
        try:
            yield DatabaseAccess(
                host=self.snapshot.runbook.targets[target].host,
                port=login.port,
                name=login.name,
                user=login.user,
                password=grant.values[0].value,
            )
        finally:
            failure = _close(grant)
        if failure:
            raise Refused(failure)

    def _next(self) -> str:
        return f"{self._id}-{next(self._numbers)}"

    def _open(self, task_id: str, target: str, grant: Grant, timeout_s: float) -> OpenGrant:
        return self.adapters.secrets.open(
            runbook=self.snapshot.runbook.name,
            run_id=self.run_id,
            leg=f"{target}:verifier",
            attempt_id=task_id,
            refs=grant.secrets,
            timeout_s=timeout_s,
        )

    def _ask(self, task_id: str, target_name: str, argv: tuple[str, ...], timeout_s: float) -> ProbeAnswer:
        target = self.snapshot.runbook.targets[target_name]
        directory = self.adapters.directory()
        values = {"target": {"name": target.name, "host": target.host, "port": str(target.port)}}
        grant = self._open(task_id, target_name, target.verifier_grant, timeout_s)
        try:
            task = self.adapters.probe_runner.task(
                task_id=task_id,
                run_id=self.run_id,
                argv=argv,
                timeout_s=timeout_s,
                target=target,
                site=directory.site(target.host),
                reaches=orders.reaches(target.verifier_grant, directory, values),
                secrets=grant.values,
            )
            if not self.running.begin(self.run_id, task_id):
                return _not_run("the run was stopped")
            result = self.adapters.hypervisor.run(task, grant.redactor, lambda _text: None)
        finally:
            self.running.end(self.run_id)
            failure = _close(grant)
        return _not_run(failure) if failure else _answer(result)


def _not_run(reason: str) -> ProbeAnswer:
    return ProbeAnswer(ran=False, code=None, stdout="", stderr="", reason=reason)


def _holds_a_secret(artefact: bytes, redactor: Redactor) -> bool:
    """An artefact is kept and shown as it is, so it must have nothing that the redactor would mask."""
    text = artefact.decode("utf-8", "replace")
    return redactor(text) != text


def _answer(result: TaskResult) -> ProbeAnswer:
    """What a verifier's command gave. Anything but an exit of the command itself is no measurement."""
    cut = "it printed more than is kept" if result.truncated else result.reason
    ran = result.ending is Ending.EXITED and result.code != EXIT_OF_SSH_ITSELF and not cut
    reason = "" if ran else (cut or result.stderr.strip()[-300:] or "ssh could not reach the target")
    return ProbeAnswer(ran=ran, code=result.code, stdout=result.stdout, stderr=result.stderr, reason=reason)


def _close(grant: OpenGrant) -> str:
    """Revoke; returns why a secret could not be proved dead, or nothing."""
    try:
        grant.close()
    except SignalboxError as error:
        return f"a secret could not be proved dead: {error}"
    return ""


def _without_output(work: AttemptWork, attended: Attended, redactor: Redactor) -> Ended:
    """An agent that asks a person, or that came to nothing."""
    asked = attended.end.asked if attended.end is not None else None
    if asked is not None:
        asked = dataclasses.replace(asked, why=redactor(asked.why))
    return Ended(
        attempt_id=work.attempt_id,
        ok=False,
        unknown=False,  # it reads: whatever it did, nothing is left of it
        reason="it asks a person about one call" if asked is not None else redactor(attended.why_none),
        stdout=attended.result.stdout[-KEPT_CHARACTERS:],
        stderr=attended.result.stderr[-KEPT_CHARACTERS:],
        connections=tuple(asdict(connection) for connection in attended.result.connections),
        asked=asked,
    )


def _not_begun(work: AttemptWork, error: SignalboxError) -> Ended:
    reason = f"it never began: {error}" + (f" ({error.remedy})" if error.remedy else "")
    return Ended(attempt_id=work.attempt_id, ok=False, unknown=False, reason=reason)
