"""The format of checks: one model a kind. Read with the rest of the file by `format`, converted by `check_convert`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, Tag, model_validator

from engine.runbooks.scalars import Condition, Duration, Edge, File, Name, Word, tagged

NoData = Annotated[
    Literal["inconclusive", "fail"],
    Field(description="what it means when there is nothing to measure; it never holds"),
]
Parse = Literal["text", "int", "percent", "json", "lines"]
Argv = Annotated[list[Word], Field(min_length=1, max_length=40)]
Key = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$", description="lower case letters, digits, underscores")]
Pattern = Annotated[str, Field(min_length=1, max_length=200, description="a regular expression, as RE2 has them")]
Glob = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_*?][A-Za-z0-9_.*?-]*(/[A-Za-z0-9_*?][A-Za-z0-9_.*?-]*)*$",
        max_length=200,
        description="a path in which * and ? stand for what is within one part of it",
    ),
]


class SamplingEdge(Edge):
    """How often a check is measured; every sample must hold."""

    count: int = Field(ge=1, le=60)
    every: Duration


class CheckEdge(Edge):
    """What every check has."""

    id: Name = Field(description="the check's name within its gate")
    mode: Literal["block", "shadow"] = Field(
        "block", description="shadow: measured and told, it neither opens nor closes"
    )


class MeasuredEdge(CheckEdge):
    """What every independent check has."""

    target: Name = Field(description="the target that is measured")
    sampling: SamplingEdge | None = None


# -- measured by somebody else than the step --------------------------------------------------------------------------


class CommandControlEdge(Edge):
    """A command whose answer is known; while the verifier does not get it, the check says nothing."""

    run: Argv = Field(description="the command and its arguments, as a list")
    parse: Parse = "text"
    code: int = Field(0, ge=0, le=255)
    expect: Condition = Field(description="what is always true")


class CommandEdge(MeasuredEdge):
    """A command that the verifier runs on the target. `expect` knows `out` and `code`."""

    type: Literal["command"]
    expect: Condition = Field(description="the condition that must be true")
    run: Argv = Field(description="the command and its arguments, as a list")
    parse: Parse = "text"
    code: int = Field(0, ge=0, le=255, description="the exit code that is right")
    timeout: Duration = Field("60s", validate_default=True)
    control: CommandControlEdge | None = None


class HttpControlEdge(Edge):
    """A page whose answer is known."""

    path: str = Field(pattern="^/", max_length=500)
    expect: Condition = Field(description="what is always true")


class HttpEdge(MeasuredEdge):
    """A GET from off the host. `expect` knows `status`, `ms`, `body`, `json`, and of https `cert`."""

    type: Literal["http"]
    expect: Condition = Field(description="the condition that must be true")
    path: str = Field(pattern="^/", max_length=500, description="the path; the site's URL comes from the directory")
    timeout: Duration = Field("10s", validate_default=True)
    control: HttpControlEdge | None = None


class QueryControlEdge(Edge):
    """A query whose answer is known, such as one for a series or a row that is always there."""

    query: str = Field(min_length=1, max_length=1000)
    expect: Condition = Field(description="what is always true")


class PromqlEdge(MeasuredEdge):
    """A query to Prometheus. `expect` knows `result` and `before`, lists of numbers. No fresh data never holds."""

    type: Literal["promql"]
    expect: Condition = Field(description="the condition that must be true")
    query: str = Field(min_length=1, max_length=1000, description="an instant query")
    max_age: Duration = Field("60s", validate_default=True)
    for_: Duration | None = Field(None, alias="for", description="true all the time, so long, and since the change")
    timeout: Duration = Field("10s", validate_default=True)
    no_data: NoData = "inconclusive"
    control: QueryControlEdge | None = None


class SqlEdge(MeasuredEdge):
    """A read-only query by the verifier's own role. `expect` knows `rows`, a list of objects. No rows never hold."""

    type: Literal["sql"]
    expect: Condition = Field(description="the condition that must be true")
    query: str = Field(min_length=1, max_length=4000, description="one SELECT; placeholders are values, unquoted")
    max_rows: int = Field(100, ge=1, le=1000)
    timeout: Duration = Field("10s", validate_default=True)
    no_data: NoData = "inconclusive"
    control: QueryControlEdge | None = None


class LogControlEdge(Edge):
    """What the log always has, such as a heart-beat."""

    present: list[Pattern] = Field(min_length=1, max_length=10)


class LogEdge(MeasuredEdge):
    """The lines since the change, read by the verifier; each begins with its time. No lines never hold."""

    type: Literal["log"]
    run: Argv | None = Field(None, description="the command that prints the log, such as journalctl -o short-iso")
    file: str | None = Field(None, pattern="^/", max_length=500, description="or the file, of which the end is read")
    present: list[Pattern] = Field(default_factory=list, max_length=20, description="each is in some line")
    absent: list[Pattern] = Field(default_factory=list, max_length=20, description="each is in no line")
    utc: bool = Field(False, description="times without a zone are UTC")
    within: Duration = Field("10m", validate_default=True, description="without a change: how old a line may be")
    for_: Duration | None = Field(None, alias="for", description="read no sooner than so long after the change")
    timeout: Duration = Field("60s", validate_default=True)
    no_data: NoData = "inconclusive"
    control: LogControlEdge | None = None

    @model_validator(mode="after")
    def _asks(self) -> LogEdge:
        if (self.run is None) == (self.file is None):
            raise ValueError("a log is read by `run` or from a `file`: write one of them")
        if not self.present and not self.absent:
            raise ValueError("write `present` or `absent`: patterns that some line, or no line, must have")
        return self


class FactEdge(Edge):
    """A command that the verifier runs; its output, parsed, is known to `expect` by the fact's name."""

    run: Argv = Field(description="the command and its arguments, as a list")
    parse: Parse = "text"
    code: int = Field(0, ge=0, le=255, description="the exit code that is right")


class DiagnosisEdge(Edge):
    """What is true on a target that has this cause."""

    facts: dict[Key, FactEdge] = Field(min_length=1, max_length=10)
    expect: Condition = Field(description="the condition over the facts")


class PatternEdge(MeasuredEdge):
    """A known diagnosis, measured again by the verifier; what a step claims only says which. Others do not hold."""

    type: Literal["pattern"]
    of: Name = Field(description="the step that claims the cause")
    cause: Key = Field("cause", description="where in its output the cause stands")
    causes: dict[Annotated[str, Field(min_length=1, max_length=80)], DiagnosisEdge] = Field(
        min_length=1, max_length=20, description="the known causes"
    )
    timeout: Duration = Field("60s", validate_default=True)
    no_data: NoData = "inconclusive"


# -- over what a step made --------------------------------------------------------------------------------------------


class DigestEdge(CheckEdge):
    """Two steps apply the same content. Never independent."""

    type: Literal["digest"]
    of: Name = Field(description="a step")
    equals: Name = Field(description="the step that was tested")


class ExprEdge(CheckEdge):
    """A condition over what a step printed, a claim. Never independent. `expect` and `unless` know `out`."""

    type: Literal["expr"]
    of: Name = Field(description="the step that printed it")
    expect: Condition = Field(description="the condition that must be true")
    unless: Condition | None = None
    no_data: NoData = "inconclusive"


class JsonSchemaEdge(Edge):
    """A JSON Schema, of these keywords."""

    type: Literal["object", "array", "string", "integer", "number", "boolean", "null"] | None = None
    enum: list[Any] | None = Field(None, min_length=1, max_length=100)
    const: Any = None
    properties: dict[str, JsonSchemaEdge] | None = None
    required: list[str] | None = None
    additional_properties: bool | None = Field(None, alias="additionalProperties")
    items: JsonSchemaEdge | None = None
    min_items: int | None = Field(None, alias="minItems", ge=0)
    max_items: int | None = Field(None, alias="maxItems", ge=0)
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: float | None = Field(None, alias="exclusiveMinimum")
    exclusive_maximum: float | None = Field(None, alias="exclusiveMaximum")
    min_length: int | None = Field(None, alias="minLength", ge=0)
    max_length: int | None = Field(None, alias="maxLength", ge=0)
    pattern: Pattern | None = None
    any_of: list[JsonSchemaEdge] | None = Field(None, alias="anyOf", min_length=1, max_length=10)

    @model_validator(mode="after")
    def _says_something(self) -> JsonSchemaEdge:
        if not self.model_fields_set:
            raise ValueError("a schema that says nothing fits everything: write `type` at least")
        return self


class SchemaEdge(CheckEdge):
    """What a step printed fits a JSON Schema. Never independent."""

    type: Literal["schema"]
    of: Name = Field(description="the step that printed it")
    schema_: JsonSchemaEdge = Field(alias="schema", description="a JSON Schema")
    no_data: NoData = "inconclusive"


class DiffEdge(CheckEdge):
    """How far a step's artefact goes, computed from its bytes. Never independent."""

    type: Literal["diff"]
    of: Name = Field(description="the step that made the artefact")
    against: Name | None = Field(None, description="the step whose artefact it replaces; without it, all is new")
    allow: list[Glob] = Field(min_length=1, max_length=20, description="the paths that may change")
    max_files: int = Field(ge=1, le=1000)
    max_lines: int = Field(ge=1, le=1000)
    no_data: NoData = "inconclusive"


class PolicyRuleEdge(Edge):
    """One rule; it is reported by its name."""

    id: Name = Field(description="the rule's name")
    expect: Condition = Field(description="the condition that must be true of `doc`")


class PolicyEdge(CheckEdge):
    """Rules over JSON that a step made; each must be true. Never independent. Conditions know `doc`."""

    type: Literal["policy"]
    of: Name = Field(description="the step")
    file: File | None = Field(None, description="a file of its artefact; without it, what it printed")
    rules: list[PolicyRuleEdge] = Field(min_length=1, max_length=40)
    no_data: NoData = "inconclusive"


# -- several ----------------------------------------------------------------------------------------------------------

IndependentCheck = Annotated[
    Annotated[CommandEdge, Tag("type:command")]
    | Annotated[HttpEdge, Tag("type:http")]
    | Annotated[PromqlEdge, Tag("type:promql")]
    | Annotated[SqlEdge, Tag("type:sql")]
    | Annotated[LogEdge, Tag("type:log")]
    | Annotated[PatternEdge, Tag("type:pattern")],
    tagged("type", "type"),
]


class QuorumEdge(CheckEdge):
    """Some of several independent checks hold; all are measured. A claim cannot be one of them."""

    type: Literal["quorum"]
    need: int = Field(ge=1, le=10, description="how many must hold")
    checks: list[IndependentCheck] = Field(min_length=2, max_length=10)

    @model_validator(mode="after")
    def _can_be_met(self) -> QuorumEdge:
        if self.need > len(self.checks):
            raise ValueError(f"{self.need} of {len(self.checks)} checks can never hold")
        if any(check.mode == "shadow" for check in self.checks):
            raise ValueError("a check of a quorum counts: put the quorum as a whole into shadow")
        return self


AnyCheck = Annotated[
    Annotated[CommandEdge, Tag("type:command")]
    | Annotated[HttpEdge, Tag("type:http")]
    | Annotated[PromqlEdge, Tag("type:promql")]
    | Annotated[SqlEdge, Tag("type:sql")]
    | Annotated[LogEdge, Tag("type:log")]
    | Annotated[PatternEdge, Tag("type:pattern")]
    | Annotated[DigestEdge, Tag("type:digest")]
    | Annotated[ExprEdge, Tag("type:expr")]
    | Annotated[SchemaEdge, Tag("type:schema")]
    | Annotated[DiffEdge, Tag("type:diff")]
    | Annotated[PolicyEdge, Tag("type:policy")]
    | Annotated[QuorumEdge, Tag("type:quorum")],
    tagged("type", "type"),
]
Checks = Annotated[list[AnyCheck], Field(min_length=1, max_length=20)]
