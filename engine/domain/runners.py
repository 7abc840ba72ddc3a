"""Runners: from an order to what a VM does, and from its result to a conclusion. Protocols, and the values that cross.

Implemented in `engine.runtime.runners` and `engine.agents`; `engine.wiring` joins them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from engine.domain.agent import AgentEnd, ConversationJournal, Guest
from engine.domain.directory import Site
from engine.domain.gate import Json
from engine.domain.journey import Leg
from engine.domain.ports import Reach, Redactor, SecretValue, TaskResult, VmTask
from engine.domain.runbook import ScriptStep, Snapshot, Target
from engine.domain.standing import Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Everything an attempt is made of, filled in. `artefact`: a canonical tar; `claims`: outputs by step id."""

    attempt_id: str
    run_id: str
    leg: Leg
    snapshot: Snapshot
    args: tuple[str, ...]
    inputs: Mapping[str, str]
    claims: Mapping[str, Json]
    target: Target | None
    site: Site | None
    reaches: tuple[Reach, ...]
    artefact: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """What an attempt came to. `ok` is the attempt's own word: it finishes the attempt and certifies nothing."""

    ok: bool
    reason: str
    output: Json = None
    artefact: bytes | None = None


class Runner(Protocol):
    """Turns an order into a VM task and its result into a conclusion. `version` is part of the content digest."""

    version: str

    def task(self, order: Order, secrets: tuple[SecretValue, ...]) -> VmTask: ...

    def conclude(self, order: Order, result: TaskResult) -> Conclusion:
        """Hostile until parsed: a bad output, a wrong schema, a wicked archive is a Conclusion that is not ok."""

    def content(self, step: ScriptStep, artefact: bytes) -> str:
        """The digest of what of a `PER_TARGET` tool's artefact is the same on every target; raises BadInput."""

    def preview(self, step: ScriptStep, artefact: bytes) -> str:
        """What the step will apply as plain text, for the person who approves it (at most 2,500 chars)."""


class ProbeRunner(Protocol):
    """Turns a verifier's command on a target into a VM task."""

    def task(
        self,
        *,
        task_id: str,
        run_id: str,
        argv: tuple[str, ...],
        timeout_s: float,
        target: Target,
        site: Site,
        reaches: tuple[Reach, ...],
        secrets: tuple[SecretValue, ...],
    ) -> VmTask: ...


@runtime_checkable
class Attends(Protocol):
    """What a hypervisor also is where agents work: the VM of a task in which many commands run instead of its one."""

    def attend(
        self, task: VmTask, redactor: Redactor, on_output: Callable[[str], None], work: Callable[[Guest], None]
    ) -> TaskResult:
        """As `Hypervisor.run`, but `work` runs as many commands as it wants; the task's `argv` is not run.

        EXITED with code 0 when `work` returned. When the task's time is over or the VM is lost, the guest raises
        Unavailable, which `work` lets through, and the ending says why. What else `work` raises is raised.
        """


class Agents(Protocol):
    """Works an agent's step: talks to its model, and makes in the step's VM those of its calls that the step allows."""

    def opened(self, order: Order, standing: Callable[[], Standing]) -> AbstractContextManager[tuple[Reach, ...]]:
        """What the VM may dial besides its grant, until the block is left: the gateway, which answers with `standing`,
        and for a coding CLI the model's proxy. Its VM starts, and `work` is called, within the block. Raises BadInput.
        """

    def work(
        self,
        order: Order,
        guest: Guest,
        journal: ConversationJournal,
        redactor: Redactor,
        on_output: Callable[[str], None],
        stopped: Callable[[], bool],
    ) -> AgentEnd:
        """Never raises for what the model or the guest does. `on_output` hears the transcript, redacted, as it comes.

        Raises Unavailable when the conversation could not be had or kept, or the VM is gone: nothing is assumed then.
        """
