"""Situations that were recorded for a step of an agent: NAME/evals/STEP/*.yaml of a runbook.

```yaml
schema: situation/v1
title: the log of checkout grew for days
inputs: {mount: /srv}
claims: {}                                 # what earlier steps said, by step
commands:                                  # what the step's VM and its target answer; nothing else is there
  - {on: target, argv: [df, --output=pcent, /srv], stdout: "Use%\\n 97%\\n"}
  - {on: target, argv: [du, -x, -d1, /srv], stdout: "9.1G /srv/checkout/log\\n"}
logs: {service: "..."}                     # by the names that the step grants
metrics: {checkout_disk_used: [0.97]}      # by the query
files: {/step/artefact/plan.txt: "..."}    # what lies in the VM beside what the agent writes
right: out.cause == "log_growth" || out.cause == "unknown"
```

`right` is CEL over the step's claim (`out`), as in a check of type expr, and over the files that it left in /step/out
(`left`: texts by path within). A step that is to leave files, and claims nothing else, may rightly leave none:
`size(left) == 0`; in a run that halts it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from engine.agents import policy
from engine.agents.policy import Decision
from engine.agents.reading import read_yaml
from engine.domain.agent import AgentRule, Tool, ToolCall, Where
from engine.domain.errors import BadInput
from engine.domain.gate import Json
from engine.domain.runbook import Runbook, ScriptStep, Snapshot

FOLDER = "evals"
MOST_BYTES = 512 << 10
REMEDY = "mend the situation; README shows one"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCommand:
    """What a command printed, in the step's VM or on the target."""

    on: Where
    argv: tuple[str, ...]
    stdout: str
    stderr: str
    code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """One of them. `name`: of its file. `right`: the condition on the claim that is right here."""

    name: str
    title: str
    inputs: Mapping[str, str]
    claims: Mapping[str, Json]
    commands: tuple[RecordedCommand, ...]
    logs: Mapping[str, str]
    metrics: Mapping[str, Json]
    files: Mapping[str, bytes]
    right: str


def agent_step(runbook: Runbook, name: str) -> tuple[ScriptStep, AgentRule]:
    """The step of this name and what makes it an agent's. Raises BadInput."""
    agents = {step.id: step for step in runbook.steps if isinstance(step, ScriptStep) and step.agent is not None}
    step = agents.get(name)
    if step is None or step.agent is None:
        raise BadInput(f"{runbook.name} has no agent's step {name!r}", f"there is {', '.join(agents) or 'none'}")
    if step.agent.cli is not None:
        raise BadInput(f"{name} is worked by {step.agent.cli}, which needs a VM", "evaluate a step of our own loop")
    return step, step.agent


def situations(snapshot: Snapshot, step: str) -> tuple[Situation, ...]:
    """Every situation of the step, in the order of their names. Raises BadInput with all that is wrong."""
    _, rule = agent_step(snapshot.runbook, step)
    folder = PurePosixPath(FOLDER, step)
    paths = [path for path in sorted(map(PurePosixPath, snapshot.files)) if _is_one(path, folder)]
    if not paths:
        raise BadInput(
            f"there is no situation in {snapshot.runbook.name}/{folder}/", "record one as *.yaml; README shows how"
        )
    found: list[Situation] = []
    wrong: list[str] = []
    for path in paths:
        try:
            edge = _read(snapshot.files[str(path)])
            problems = [*_problems(edge, snapshot.runbook, rule)]
        except BadInput as error:
            problems = [str(error)]
        else:
            found.append(edge.within(path.stem))
        wrong += [f"{snapshot.runbook.name}/{path}: {problem}" for problem in problems]
    if wrong:
        raise BadInput("\n".join(wrong), REMEDY)
    return tuple(found)


def _is_one(path: PurePosixPath, folder: PurePosixPath) -> bool:
    return path.parent == folder and path.suffix == ".yaml"


# -- the file ---------------------------------------------------------------------------------------------------------

Text = Annotated[str, Field(max_length=256 << 10)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Command(_Part):
    argv: list[str] = Field(min_length=1, max_length=policy.MAX_WORDS)
    on: Where = Where.VM
    stdout: Text = ""
    stderr: Text = ""
    code: int = Field(0, ge=0, le=255)

    @property
    def call(self) -> ToolCall:
        return ToolCall(id="recorded", tool=Tool.RUN, args={"argv": [*self.argv], "on": self.on.value})


class _File(_Part):
    schema_: Literal["situation/v1"] = Field(alias="schema")
    title: str = Field(min_length=1, max_length=200)
    inputs: dict[str, str] = {}
    claims: dict[str, dict[str, JsonValue]] = {}
    commands: list[_Command] = Field([], max_length=200)
    logs: dict[str, Text] = {}
    metrics: dict[str, JsonValue] = {}
    files: dict[str, Text] = {}
    right: str = Field(min_length=1, max_length=500)

    def within(self, name: str) -> Situation:
        """The value."""
        return Situation(
            name=name,
            title=self.title,
            inputs=self.inputs,
            claims={step: dict(claim) for step, claim in self.claims.items()},
            commands=tuple(
                RecordedCommand(on=one.on, argv=tuple(one.argv), stdout=one.stdout, stderr=one.stderr, code=one.code)
                for one in self.commands
            ),
            logs=self.logs,
            metrics=self.metrics,
            files={path: text.encode() for path, text in self.files.items()},
            right=self.right,
        )


def _read(data: bytes) -> _File:
    try:
        return _File.model_validate(read_yaml(data, MOST_BYTES))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadInput(f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}") from None


def _problems(edge: _File, runbook: Runbook, rule: AgentRule) -> Iterator[str]:
    """What does not fit the runbook: a situation that no run could be in tells nothing."""
    rules = {one.name: one for one in runbook.inputs}
    for name in sorted(rules.keys() | edge.inputs.keys()):
        if name not in rules:
            yield f"input {name} is unknown; known: {', '.join(rules) or 'none'}"
        elif name not in edge.inputs:
            yield f"input {name} has no value"
        elif not rules[name].takes(edge.inputs[name]):
            yield f"input {name} is out of its bounds"
    steps = {step.id for step in runbook.steps}
    yield from (f"claims: there is no step {name}" for name in edge.claims.keys() - steps)
    logs = {source.name for source in rule.tools.logs}
    yield from (f"logs: the step has none of the name {name}" for name in edge.logs.keys() - logs)
    for one in edge.commands:
        ruling = policy.rule_on(one.call, rule.tools)
        if ruling.decision is Decision.REFUSE:
            yield f"commands: the step may never run this: {ruling.why}"
