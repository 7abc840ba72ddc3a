"""The checks of a file: each kind as it is written, what it becomes, and what is refused with a line and a remedy."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
import yaml

from engine.domain.gate import (
    Check,
    CommandCheck,
    Diagnosis,
    DiffCheck,
    Fact,
    LogCheck,
    NoData,
    Parse,
    PatternCheck,
    PolicyCheck,
    PolicyRule,
    PromqlCheck,
    QuorumCheck,
    SchemaCheck,
    SqlCheck,
)
from engine.domain.runbook import GateStep
from engine.gates.schema import KEYWORDS
from engine.runbooks.check_format import AnyCheck, JsonSchemaEdge
from tests.architecture.test_readme import README, blocks
from tests.unit.runbooks.good import Raw, problems, raw, restore, step

SQL = {"id": "q", "type": "sql", "target": "production", "query": "SELECT 1 AS n", "expect": "rows[0].n == 1"}
LOG = {"id": "l", "type": "log", "target": "production", "run": ["journalctl"], "absent": ["ERROR"]}
PATTERN = {
    "id": "p",
    "type": "pattern",
    "target": "production",
    "of": "look",
    "causes": {"known": {"facts": {"used": {"run": ["df"], "parse": "percent"}}, "expect": "used > 80.0"}},
}
SCHEMA = {"id": "s", "type": "schema", "of": "look", "schema": {"type": "object", "required": ["cause"]}}
DIFF = {"id": "d", "type": "diff", "of": "make", "allow": ["fix/*.yml"], "max_files": 2, "max_lines": 80}
POLICY = {"id": "r", "type": "policy", "of": "look", "rules": [{"id": "one", "expect": "doc.cause == 'known'"}]}
COMMAND = {"id": "c", "type": "command", "target": "production", "run": ["uptime"], "expect": "code == 0"}
HTTP = {"id": "h", "type": "http", "target": "production", "path": "/", "expect": "status == 200"}
RATE = {
    "id": "m",
    "type": "promql",
    "target": "production",
    "query": 'x{env="production"}',
    "expect": "result[0] < 1.0",
}
QUORUM = {"id": "two", "type": "quorum", "need": 2, "checks": [COMMAND, HTTP, RATE]}
DATABASE = {
    "name": "shop",
    "user": "gate",
    "secret": {"name": "db", "engine": "kv", "path": "kv/data/production/gate-db", "fields": ["password"]},
}


def book(*checks: dict[str, Any], gate: str = "healthy") -> Raw:
    """The good runbook with these checks more in a gate, and a database to enter."""
    values = raw()
    values["targets"]["production"]["verifier"]["database"] = DATABASE
    values["deadline"] = "24h"
    step(values, gate)["checks"] += checks
    return values


def read(check: dict[str, Any], gate: str = "healthy") -> Check:
    """What the engine makes of one check."""

    snapshot = restore(json.dumps(book(check, gate=gate)))
    gates = {one.id: one for one in snapshot.runbook.steps if isinstance(one, GateStep)}
    return (*gates[gate].checks, *gates[gate].shadow)[-1]


def refused(check: dict[str, Any], gate: str = "healthy") -> str:
    return "\n".join(problems(book(check, gate=gate)))


def test_a_query_to_a_database() -> None:
    assert read(SQL) == SqlCheck(id="q", target="production", query="SELECT 1 AS n", expect="rows[0].n == 1")


def test_a_database_is_entered_with_a_secret_of_its_own() -> None:

    target = restore(json.dumps(book(SQL))).runbook.targets["production"]

    assert target.database is not None
    assert (target.database.port, target.database.name, target.database.user) == (5432, "shop", "gate")
    assert [secret.path for secret in target.database.grant.secrets] == ["kv/data/production/gate-db"]


def test_a_log_by_a_command_or_from_a_file() -> None:
    assert read(LOG) == LogCheck(id="l", target="production", run=("journalctl",), absent=("ERROR",))
    from_file = {**LOG, "file": "/var/log/{{ inputs.unit }}.log", "for": "30s", "utc": True, "within": "5m"}
    del from_file["run"]
    check = read(from_file)
    assert isinstance(check, LogCheck)
    assert check.run == ("tail", "-c", "200000", "--", "/var/log/{{ inputs.unit }}.log")
    assert (check.for_s, check.utc, check.within_s) == (30, True, 300)


def test_a_pattern_and_its_facts() -> None:
    facts = (Fact(name="used", run=("df",), parse=Parse.PERCENT),)
    known = (Diagnosis(cause="known", facts=facts, expect="used > 80.0"),)

    assert read(PATTERN) == PatternCheck(id="p", target="production", of="look", cause="cause", known=known)


def test_checks_over_what_a_step_made() -> None:
    assert read(SCHEMA) == SchemaCheck(id="s", of="look", schema={"type": "object", "required": ["cause"]})
    assert read(DIFF) == DiffCheck(id="d", of="make", allow=("fix/*.yml",), max_files=2, max_lines=80)
    rules = (PolicyRule(id="one", expect="doc.cause == 'known'"),)
    assert read(POLICY) == PolicyCheck(id="r", of="look", rules=rules)


def test_a_window_and_a_rule_for_no_data() -> None:
    check = read({**RATE, "for": "5m", "no_data": "fail", "expect": "result[0] < before[0]"})

    assert isinstance(check, PromqlCheck)
    assert (check.for_s, check.no_data) == (300, NoData.FAIL)


def test_a_control_is_the_same_check_with_another_question() -> None:
    check = read(
        {**COMMAND, "sampling": {"count": 3, "every": "1s"}, "control": {"run": ["cat"], "expect": "out == 'x'"}}
    )
    rate = read({**RATE, "for": "5m", "control": {"query": 'up{env="production"}', "expect": "result[0] == 1.0"}})
    log = read({**LOG, "control": {"present": ["heartbeat"]}})

    assert isinstance(check, CommandCheck)
    assert check.control == CommandCheck(id="c", target="production", run=("cat",), expect="out == 'x'")
    assert isinstance(rate, PromqlCheck)
    assert rate.control is not None
    assert (rate.control.query, rate.control.for_s) == ('up{env="production"}', 0)
    assert isinstance(log, LogCheck)
    assert log.control is not None
    assert (log.control.present, log.control.absent) == (("heartbeat",), ())


def test_a_quorum_of_checks() -> None:
    check = read(QUORUM)

    assert isinstance(check, QuorumCheck)
    assert (check.need, [member.id for member in check.checks]) == (2, ["c", "h", "m"])


def test_what_is_in_shadow_stands_apart() -> None:

    gates = {
        one.id: one
        for one in restore(json.dumps(book({**COMMAND, "mode": "shadow"}, HTTP))).runbook.steps
        if isinstance(one, GateStep)
    }

    assert [check.id for check in gates["healthy"].checks] == ["rate", "h"]
    assert [check.id for check in gates["healthy"].shadow] == ["c"]


def test_every_keyword_of_a_schema_can_be_written_and_no_other() -> None:
    """What may be written is what the kind knows: a keyword that only one of them knew would be an error at night."""
    written = {field.alias or name for name, field in JsonSchemaEdge.model_fields.items()}

    assert written == set(KEYWORDS)


def test_every_kind_can_be_written() -> None:
    tags = {member.__metadata__[0].tag.removeprefix("type:") for member in get_args(get_args(AnyCheck)[0])}

    assert tags == {member.__dataclass_fields__["type"].default for member in get_args(Check)}


WRONG: list[tuple[dict[str, Any], str]] = [
    # the shape
    ({**SQL, "type": "sqll"}, "did you mean sql?"),
    ({**LOG, "file": "/x"}, "write one of them"),
    ({key: value for key, value in LOG.items() if key != "run"}, "write one of them"),
    ({**LOG, "absent": []}, "write `present` or `absent`"),
    ({**SCHEMA, "schema": {}}, "says nothing"),
    ({**SCHEMA, "schema": {"typ": "object"}}, "did you mean type?"),
    ({**SCHEMA, "schema": {"properties": {"a": {"minimun": 1}}}}, "did you mean minimum?"),
    ({**DIFF, "allow": ["../*.yml"]}, "write a path"),
    ({**DIFF, "allow": ["/etc/*"]}, "write a path"),
    ({**DIFF, "allow": ["fix/[ab].yml"]}, "write a path"),
    ({**POLICY, "rules": []}, "at least 1"),
    ({**QUORUM, "need": 4}, "4 of 3 checks can never hold"),
    ({**QUORUM, "need": 0}, "greater than or equal to 1"),
    (
        {**QUORUM, "checks": [COMMAND, {"id": "e", "type": "expr", "of": "look", "expect": "out.a"}]},
        "has the type 'expr'",
    ),
    ({**QUORUM, "checks": [COMMAND, QUORUM]}, "has the type 'quorum'"),
    ({**QUORUM, "checks": [COMMAND, {**HTTP, "mode": "shadow"}]}, "put the quorum as a whole into shadow"),
    ({**COMMAND, "no_data": "pass"}, "no_data"),
    ({**RATE, "no_data": "pass"}, "no_data"),
    ({**SCHEMA, "independent": True}, "unknown key"),
    ({**HTTP, "control": {"path": "/"}}, "control.expect is missing"),
    # the rules
    ({**SQL, "target": "staging"}, "the verifier of staging enters no database"),
    ({**SQL, "target": "prod"}, "there is no target prod"),
    ({**SQL, "expect": "row.n == 1"}, "row is not measured; there is rows"),
    ({**SQL, "query": "SELECT {{ inputs.nothing }} AS n"}, "unknown placeholder"),
    ({**SQL, "query": "SELECT '{{ inputs.unit }}' AS n"}, "stands within quotes"),
    ({**LOG, "run": ["journalctl", "{{ inputs.nothing }}"]}, "unknown placeholder"),
    ({**LOG, "absent": ["("]}, "is no regular expression"),
    ({**LOG, "absent": ["(?=x)y"]}, "is no regular expression"),
    ({**LOG, "present": ["x*"]}, "matches everything"),
    ({**SCHEMA, "schema": {"properties": {"a": {"pattern": "("}}}}, "is no regular expression"),
    ({**SCHEMA, "of": "make"}, "no step make before it has an output"),
    ({**PATTERN, "of": "make"}, "no step make before it has an output"),
    (
        {**PATTERN, "causes": {"known": {"facts": {"a": {"run": ["x"]}}, "expect": "b == 1"}}},
        "b is not measured; there is a",
    ),
    (
        {**PATTERN, "causes": {"k": {"facts": {"a": {"run": ["{{ x.y }}"]}}, "expect": "a == 'x'"}}},
        "unknown placeholder",
    ),
    ({**DIFF, "of": "look"}, "no step look before it has an artefact"),
    ({**DIFF, "against": "look"}, "no step look before it has an artefact"),
    ({**POLICY, "of": "make"}, "no step make before it has an output"),
    ({**POLICY, "file": "plan.json"}, "no step look before it has an artefact"),
    ({**POLICY, "rules": [{"id": "one", "expect": "out.cause == 'known'"}]}, "out is not measured; there is doc"),
    ({**QUORUM, "checks": [COMMAND, {**HTTP, "expect": "statu == 200"}]}, "statu is not measured"),
    ({**QUORUM, "checks": [COMMAND, {**HTTP, "id": "c"}]}, "a second check is called c"),
    ({**QUORUM, "checks": [COMMAND, {**HTTP, "target": "prod"}]}, "there is no target prod"),
    ({**RATE, "control": {"query": "up", "expect": "result[0] == 1.0"}}, "does not say that it is about production"),
    ({**COMMAND, "control": {"run": ["x", "{{ x.y }}"], "expect": "code == 0"}}, "unknown placeholder"),
    ({**COMMAND, "mode": "shadow", "expect": "cod == 0"}, "cod is not measured"),
    ({**COMMAND, "mode": "shadow", "id": "rate"}, "a second check is called rate"),
]


@pytest.mark.parametrize(("check", "said"), WRONG, ids=[f"{check['type']}: {said}" for check, said in WRONG])
def test_what_is_wrong_is_refused_and_said(check: dict[str, Any], said: str) -> None:
    assert said in refused(check)


def test_the_line_of_what_is_wrong_is_named_also_within_a_quorum_and_after_a_shadow() -> None:
    values = book(
        {**COMMAND, "id": "aside", "mode": "shadow"}, {**QUORUM, "checks": [COMMAND, {**HTTP, "target": "prod"}]}
    )

    lines = json.dumps(values, indent=1).splitlines()
    (told,) = [line for line in problems(values) if "there is no target prod" in line]

    assert '"prod"' in lines[int(told.split(":")[0]) - 1]


@pytest.mark.parametrize(
    ("checks", "said"),
    [
        ([{**COMMAND, "mode": "shadow"}, {**HTTP, "mode": "shadow"}], "nothing independent judges production"),
        ([SCHEMA, DIFF, POLICY], "nothing independent judges production"),
        ([COMMAND, LOG], "is judged only from within"),
        ([{**QUORUM, "need": 1}], "is judged only from within"),
        ([{**QUORUM, "checks": [COMMAND, {**COMMAND, "id": "c2", "run": ["id"]}, HTTP]}], "is judged only from within"),
        (
            [{**QUORUM, "checks": [HTTP, {**HTTP, "id": "h2", "target": "staging"}], "need": 1}],
            "no check measures production",
        ),
        ([COMMAND, {**HTTP, "mode": "shadow"}], "is judged only from within"),
    ],
    ids=["all in shadow", "claims", "from within", "need 1", "outvoted", "elsewhere", "off host in shadow"],
)
def test_a_gate_that_guarantees_too_little_does_not_load(checks: list[dict[str, Any]], said: str) -> None:
    values = book()
    step(values, "healthy")["checks"] = checks

    assert said in "\n".join(problems(values))


@pytest.mark.parametrize("checks", [[QUORUM], [SQL], [COMMAND, SQL, LOG], [HTTP, {**LOG, "mode": "shadow"}]])
def test_a_gate_that_guarantees_enough_loads(checks: list[dict[str, Any]]) -> None:
    values = book()
    step(values, "healthy")["checks"] = checks

    assert problems(values) == []


def test_a_verifier_shares_its_password_with_nobody() -> None:
    def of(path: str, fields: list[str]) -> str:
        values = book()
        secret = {**DATABASE["secret"], "path": path, "fields": fields}  # type: ignore[dict-item]  # a mapping
        values["targets"]["production"]["verifier"]["database"] = {**DATABASE, "secret": secret}
        return "\n".join(problems(values))

    assert of("kv/data/production/gate-db", ["password"]) == ""
    assert "has the secret of step production" in of("kv/data/production/operator", ["password"])
    assert "have one verifier's key" in of("kv/data/staging/verifier", ["password"])
    assert "a password is one field" in of("kv/data/production/gate-db", ["user", "password"])


def test_the_time_that_checks_may_take_counts_towards_the_deadline() -> None:
    def needed(check: dict[str, Any]) -> int:
        values = book(check)
        values["deadline"] = "1m"
        (told,) = [line for line in problems(values) if "timeouts and waits" in line]
        return int(told.split("take ")[1].split(" min")[0])

    plain = needed({**COMMAND, "timeout": "10m"})
    assert needed({**COMMAND, "timeout": "10m", "mode": "shadow"}) == plain
    assert needed({**COMMAND, "timeout": "10m", "control": {"run": ["x"], "expect": "code == 0"}}) == plain + 10
    assert needed({**RATE, "for": "10m", "timeout": "10m"}) == plain + 10
    assert needed({**QUORUM, "checks": [{**COMMAND, "timeout": "10m"}, {**LOG, "timeout": "10m"}]}) == plain + 10
    two = {"a": {"run": ["x"]}, "b": {"run": ["y"]}}
    pattern = {**PATTERN, "timeout": "10m", "causes": {"k": {"facts": two, "expect": "a == b"}}}
    assert needed(pattern) == plain + 10


def test_the_checks_that_readme_shows_load() -> None:
    (shown,) = [block for block in blocks(README.read_text()) if block.text.startswith("checks:\n")]

    assert problems(book(*yaml.safe_load(shown.text)["checks"])) == []
