"""The agent runner: the VM in which an agent's commands run, and what its claim must be. Its loop is `engine.agents`.

It finds what a script finds (see `script`); its prompt is a file there among others, and the task's own command does
nothing. The claim is the last line of stdout, as a script's; who performs the attempt puts it there.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from engine.domain import digest
from engine.domain.errors import BadInput
from engine.domain.ports import FileIn, SecretValue, TaskResult, VmTask
from engine.domain.runbook import Access, ScriptStep
from engine.domain.runners import Conclusion, Order
from engine.runtime.runners.script import ScriptRunner

ASK = "/usr/local/bin/signalbox"
""" `signalbox gate check`, in the VM. """
PROGRAM = Path(__file__).parents[1] / "guest" / "ask.py"


class AgentRunner:
    """Implements `runners.Runner`. Change `version` whenever an agent would find something else in its VM."""

    version = "agent/2"
    _script = ScriptRunner("the agent")

    def task(self, order: Order, secrets: tuple[SecretValue, ...]) -> VmTask:
        """See `runners.Runner.task`. Raises BadInput for an order that cannot be carried out as written."""
        step = order.leg.step
        if not isinstance(step, ScriptStep) or step.agent is None:
            raise BadInput(f"leg {order.leg.id} is no agent's", "this is a defect of the engine: report it")
        if step.access is Access.WRITE:
            raise BadInput(f"step {step.id}: an agent changes nothing", "let it produce what another step applies")
        for file in step.agent.context:
            if file not in order.snapshot.files:
                raise BadInput(f"step {step.id}: no file {file!r} in the runbook's folder", "add it, or mend `context`")
        task = self._script.task(order, secrets)
        return replace(
            task, argv=("true",), files=(*task.files, FileIn(path=ASK, content=PROGRAM.read_bytes(), mode=0o755))
        )

    def conclude(self, order: Order, result: TaskResult) -> Conclusion:
        """See `runners.Runner.conclude`."""
        return self._script.conclude(order, result)

    def content(self, step: ScriptStep, artefact: bytes) -> str:  # noqa: ARG002 - the port has it
        """See `runners.Runner.content`: every byte counts."""
        return digest.of_bytes(artefact)

    def preview(self, step: ScriptStep, artefact: bytes) -> str:
        """See `runners.Runner.preview`."""
        return self._script.preview(step, artefact)
