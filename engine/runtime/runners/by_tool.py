"""Which runner makes an order: chosen by the step's tool. Implements `runners.Runner`; given out by `engine.wiring`."""

from __future__ import annotations

from collections.abc import Mapping

from engine.domain.errors import BadInput
from engine.domain.ports import SecretValue, TaskResult, VmTask
from engine.domain.runbook import ScriptStep, Tool
from engine.domain.runners import Conclusion, Order, Runner
from engine.runtime.runners.agent import AgentRunner
from engine.runtime.runners.ansible import AnsibleRunner
from engine.runtime.runners.script import ScriptRunner
from engine.runtime.runners.terraform import TerraformRunner


class RunnerByTool:
    """All runners as one."""

    def __init__(self) -> None:
        self._runners: Mapping[Tool, Runner] = {
            Tool.SCRIPT: ScriptRunner(),
            Tool.ANSIBLE: AnsibleRunner(),
            Tool.TERRAFORM: TerraformRunner(),
            Tool.AGENT: AgentRunner(),
        }
        self.version = " ".join(runner.version for runner in self._runners.values())

    def task(self, order: Order, secrets: tuple[SecretValue, ...]) -> VmTask:
        """See `runners.Runner.task`."""
        return self._of(order).task(order, secrets)

    def conclude(self, order: Order, result: TaskResult) -> Conclusion:
        """See `runners.Runner.conclude`."""
        return self._of(order).conclude(order, result)

    def content(self, step: ScriptStep, artefact: bytes) -> str:
        """See `runners.Runner.content`."""
        return self._runners[step.tool].content(step, artefact)

    def preview(self, step: ScriptStep, artefact: bytes) -> str:
        """See `runners.Runner.preview`."""
        return self._runners[step.tool].preview(step, artefact)

    def _of(self, order: Order) -> Runner:
        step = order.leg.step
        if not isinstance(step, ScriptStep):
            raise BadInput(f"leg {order.leg.id} is no attempt", "this is a defect of the engine: report it")
        return self._runners[step.tool]
