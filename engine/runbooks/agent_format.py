"""What an agent's step may do and spend, as the runbook's YAML says it. Used by `format`; converted here too.

Patterns of commands and paths mean what `engine.domain.agent` says of them; what the shape alone cannot say of them is
a rule in `rules.agents`.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from engine.domain.agent import AgentRule, Budget, CommandRule, LogSource, Tools, Where
from engine.runbooks.scalars import Edge

MAX_TOKENS = 5_000_000
_THOUSANDS = r"^[1-9][0-9]{0,3}k$"


def _tokens(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not re.fullmatch(_THOUSANDS[1:-1], value):
        raise ValueError("tokens are a whole number, or thousands with k, such as 120k")
    return int(value[:-1]) * 1000


Tokens = Annotated[
    int,
    BeforeValidator(_tokens),
    Field(ge=1000, le=MAX_TOKENS),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1000, "maximum": MAX_TOKENS},
                {"type": "string", "pattern": _THOUSANDS},
            ]
        }
    ),
]
Argv = Annotated[list[Annotated[str, Field(min_length=1, max_length=300)]], Field(min_length=1, max_length=40)]
PathPattern = Annotated[
    str,
    Field(
        pattern=r"^(/[A-Za-z0-9_@%+=:,.-]+)+(/\*\*)?$",
        max_length=200,
        description="an absolute path, or a folder with all in it, such as /step/out/**",
    ),
]
MetricName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z_:][A-Za-z0-9_:]{1,99}\*?$",
        description="the name of a metric, or how names begin, such as checkout_*",
    ),
]
LogName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$", description="lower case letters, digits, - and _")]
ModelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]


class CommandEdge(Edge):
    """A command that the agent may run, a word for a word. `*`: any one word that is no option and no absolute path;
    `/srv/**`: any path within that folder; `**` at the end: any number of words as `*` takes them."""

    on: Literal["vm", "target"] = Field("vm", description="in the step's own VM, or on its target")
    argv: Argv = Field(description="the command, word by word")
    ask: bool = Field(False, description="a person says yes to each such call, or it is not made")


class ToolsEdge(Edge):
    """All that the agent may do; nothing by default."""

    run: list[CommandEdge] = Field(default_factory=list, max_length=40, description="the commands that it may run")
    read: list[PathPattern] = Field(default_factory=list, max_length=20, description="what it may read in its VM")
    write: list[PathPattern] = Field(default_factory=list, max_length=20, description="what it may write in its VM")
    metrics: list[MetricName] = Field(default_factory=list, max_length=40, description="the metrics it may query")
    logs: dict[LogName, Argv] = Field(
        default_factory=dict, max_length=20, description="logs of the target by name: the command that prints the end"
    )


class BudgetEdge(Edge):
    """The most that the agent may use, over all attempts that go on with one another."""

    requests: int = Field(ge=1, le=200, description="requests to the model")
    tokens: Tokens = Field(description="tokens in and out together, such as 120k")
    calls: int | None = Field(None, ge=1, le=500, description="calls of its tools; not for a `cli`, which has none")
    usd: float | None = Field(None, ge=0.01, le=100, description="dollars, by the prices of SIGNALBOX_MODELS")


class ModelEdge(Edge):
    """What a step has that a model works: which, by whose hands, and what for."""

    model: ModelName = Field(description="the name of a model of the file SIGNALBOX_MODELS")
    cli: Literal["codex"] | None = Field(
        None, description="a coding CLI that works the step in its VM, with no tools but what the VM has"
    )
    tools: ToolsEdge = Field(default_factory=ToolsEdge, description="all that it may do")
    budget: BudgetEdge = Field(description="the most that it may use, such as {requests: 20, tokens: 120k, calls: 40}")

    @model_validator(mode="after")
    def _calls_are_counted(self) -> ModelEdge:
        if self.cli is None and self.budget.calls is None:
            raise ValueError("a budget says how many `calls` of its tools the agent may make, such as calls: 40")
        if self.cli is not None and self.budget.calls is not None:
            raise ValueError("nobody counts the calls of a coding CLI: write its budget without `calls`")
        return self


def rule(model: str, context: list[str], tools: ToolsEdge, budget: BudgetEdge, cli: str | None) -> AgentRule:
    """What makes the step an agent's, as the engine uses it."""
    return AgentRule(
        model=model,
        cli=cli,
        context=tuple(context),
        tools=Tools(
            run=tuple(CommandRule(argv=tuple(one.argv), on=Where(one.on), ask=one.ask) for one in tools.run),
            reads=tuple(tools.read),
            writes=tuple(tools.write),
            metrics=tuple(tools.metrics),
            logs=tuple(LogSource(name=name, argv=tuple(argv)) for name, argv in tools.logs.items()),
        ),
        budget=Budget(
            requests=budget.requests,
            tokens=budget.tokens,
            calls=budget.calls or 0,
            microdollars=None if budget.usd is None else round(budget.usd * 1_000_000),
        ),
    )
