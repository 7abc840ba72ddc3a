"""The format: every problem at once, each with its line, what is wrong and how to mend it."""

from __future__ import annotations

import json

import pytest
import yaml

from engine.domain.gate import CommandCheck, Parse, Sampling
from engine.domain.runbook import Access, GateStep, Grant, InputRule, Limits, Login, Rollback, ScriptStep, SecretRef
from engine.runbooks import schema
from tests.unit.runbooks.good import TEXT, problems, raw, restore, step


def bent(old: str, new: str) -> list[str]:
    """The problems of the good text with one piece of it replaced (the first occurrence)."""
    assert old in TEXT
    return problems(TEXT.replace(old, new, 1))


def line_of(piece: str) -> int:
    """The line of the first occurrence of a piece of the good text."""
    return TEXT.count("\n", 0, TEXT.index(piece)) + 1


LOOK = "- id: look"
""" A key that is missing is reported where the step begins. """


@pytest.mark.parametrize(
    ("old", "new", "at", "problem"),
    [
        ("access: read", "acess: read", None, "unknown key steps[1].acess - did you mean access? Otherwise use one of"),
        ("access: read", "acess: read", LOOK, "steps[1].access is missing - add it: what the step may do to its targ"),
        ("access: read", "access: reed", None, "steps[1].access is 'reed' - did you mean read? Otherwise write one of"),
        ("kind: script", "kind: skript", LOOK, "steps[1] has the kind 'skript' - did you mean script? Otherwise use"),
        (
            "kind: script\n",
            "\n",
            LOOK,
            "steps[1] has no kind - add kind: receive | script | ansible | agent | terraform-plan | terraform-apply",
        ),
        ("type: expr", "type: exp", None, "steps[2].checks[0] has the type 'exp' - did you mean expr? Otherwise use"),
        ("idempotent: true", "", LOOK, "steps[1].idempotent is missing - add it: whether it may be run again when"),
        ("timeout: 1m", "timeout: 60", None, "steps[1].timeout is 60 - a duration is a whole number with s, m or h"),
        ("timeout: 1m", "timeout: 1m30s", None, "steps[1].timeout is '1m30s' - a duration is a whole number with s"),
        ("deadline: 2h", "deadline: 0h", None, "deadline is '0h' - a duration is a whole number with s, m or h, such"),
        ("runbook/v1", "runbook/v2", None, "schema is 'runbook/v2' - did you mean runbook/v1? Otherwise write one of"),
        ("look.sh", "../look.sh", None, "steps[1].script is '../look.sh' - write the script that runs; pattern"),
        ("look.sh", "/bin/sh", None, "steps[1].script is '/bin/sh' - write the script that runs; pattern"),
        ("port: 22", "port: '22'", None, "steps[1].network[0].port is '22' - input should be a valid integer"),
        ("port: 22", "port: 0", None, "steps[1].network[0].port is 0 - input should be greater than or equal to 1"),
        ("engine: kv", "engine: aws", None, "targets.staging.verifier.secret.engine is 'aws' - write one of kv"),
        ("kv/data/staging", "kv/..", None, "targets.staging.verifier.secret.path is 'kv/../verifier' - write the full"),
        ("  unit:", "  Unit:", None, "inputs.Unit is 'Unit' - write lower case letters and underscores; pattern"),
        ("alert.labels.unit", "alert.unit", None, "inputs.unit.from is 'alert.unit' - write where it stands in the"),
        ("host: staging.demo", "host: 10.0.0.1", None, "targets.staging.host is '10.0.0.1' - write its name in the d"),
        ("host: staging.demo", "host: '*'", None, "targets.staging.host is '*' - write its name in the directory"),
        (
            "script: undo.sh",
            'none: "because"',
            "checks:\n        -",
            "unknown key steps[4].rollback.checks - use one o",
        ),
        ("[critical]", "[fatal]", None, "trigger.severity[0] is 'fatal' - write one of critical, high, warning"),
        ("id: confirmed", "id: Confirmed", None, "steps[2].id is 'Confirmed' - write the step's name; pattern"),
        ('"@oncall"', "oncall", None, "escalate.to is 'oncall' - write a group, such as @oncall; pattern"),
    ],
)
def test_each_problem_has_its_line_and_its_remedy(old: str, new: str, at: str | None, problem: str) -> None:
    found = bent(old, new)

    assert any(line.startswith(f"{line_of(at or old)}: {problem}") for line in found), "\n".join(found)


def test_problems_of_shape_are_said_all_at_once_and_in_order() -> None:
    values = raw()
    del values["owner"]
    step(values, "look")["acess"] = "read"
    step(values, "tested")["checks"][0]["type"] = "htp"
    values["surprise"] = 1

    found = problems(values)

    assert len(found) == 4
    assert [int(line.split(":")[0]) for line in found] == sorted(int(line.split(":")[0]) for line in found)


def test_a_broken_text_says_what_of_its_shape_can_still_be_said() -> None:
    found = bent("owner: team", "owner: team\nowner: other")

    assert found == [f"{line_of('owner: team') + 1}: the key owner is there twice - remove one; the other is on line 4"]


@pytest.mark.parametrize("text", ["- 1\n", "just text\n", "3\n", "null\n", "[]\n"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    assert problems(text)


def test_an_author_cannot_declare_a_check_independent() -> None:
    """The author's word never counts: there is no such key."""
    found = bent("of: look, unless", "of: look, independent: true, unless")
    known = "id, mode, type, of, expect, unless, no_data"

    assert found == [f"{line_of('type: expr')}: unknown key steps[2].checks[0].independent - use one of {known}"]


def test_a_verifiers_grant_is_its_own_host_and_secret_only() -> None:
    target = restore(TEXT).runbook.targets["production"]

    assert target.verifier == Login(user="verifier", key="ssh")
    assert [(one.host, one.port) for one in target.verifier_grant.network] == [("production.demo", 22)]
    assert [one.path for one in target.verifier_grant.secrets] == ["kv/data/production/verifier"]


def test_the_engine_gets_frozen_values() -> None:
    runbook = restore(TEXT).runbook
    look, confirmed, make, staging = runbook.steps[1:5]

    assert (runbook.deadline_s, runbook.alertnames, runbook.severities) == (7200, ("Broken",), ("critical",))
    assert runbook.inputs == (InputRule(name="unit", source="alert.labels.unit", pattern="^[a-z]{1,20}$"),)
    assert isinstance(look, ScriptStep)
    assert (look.access, look.timeout_s, look.idempotent, look.image) == (Access.READ, 60, True, "step")
    assert look.grant.secrets == (
        SecretRef(name="ssh", engine="kv", path="kv/data/production/reader", fields=("key",)),
    )
    assert look.output is not None
    assert (look.output.required, look.output.enums) == (("cause",), {"cause": ("known", "unknown")})
    assert isinstance(make, ScriptStep)
    assert (make.grant, make.login, make.target, make.rollback) == (Grant(), None, None, None)
    assert isinstance(staging, ScriptStep)
    assert isinstance(staging.rollback, Rollback)
    assert (staging.rollback.script.file, staging.rehearse, staging.uses) == ("undo.sh", True, "make")
    assert isinstance(confirmed, GateStep)
    assert (confirmed.of, confirmed.fresh_for_s) == ("look", 600)


def test_a_step_without_limits_has_the_usual_ones_and_a_block_replaces_what_it_names() -> None:
    values = raw()
    step(values, "look")["limits"] = {"vcpus": 2, "cpu_percent": 150, "disk_mb": 64, "egress_mb": 5}
    runbook = restore(yaml.safe_dump(values)).runbook
    look, make = (next(each for each in runbook.steps if each.id == name) for name in ("look", "make"))

    assert isinstance(look, ScriptStep)
    assert look.limits == Limits(vcpus=2, cpu_percent=150, disk_mb=64, egress_mb=5, processes=256, output_kb=1024)
    assert isinstance(make, ScriptStep)
    assert make.limits == Limits()


@pytest.mark.parametrize(
    "limits",
    [
        *({"vcpus": 0}, {"vcpus": 5}, {"cpu_percent": 4}, {"cpu_percent": 401}, {"disk_mb": 7}, {"disk_mb": 8193}),
        *({"processes": 3}, {"processes": 4097}, {"output_kb": 0}, {"output_kb": 16385}, {"egress_mb": 0}),
        *({"egress_mb": 102401}, {"vcpus": "2"}, {"memory": 5}, 7),
    ],
    ids=str,
)
def test_limits_are_bounded(limits: object) -> None:
    values = raw()
    step(values, "look")["limits"] = limits

    assert len(problems(values)) == 1


def test_limits_are_part_of_what_is_tested_and_approved() -> None:
    """The content digest has the runbook's digest in it, as its policy."""
    values = raw()
    before = restore(yaml.safe_dump(values)).digest
    step(values, "look")["limits"] = {"egress_mb": 5}

    assert restore(yaml.safe_dump(values)).digest != before


def test_checks_carry_their_defaults_and_their_samples() -> None:
    values = raw()
    check = step(values, "confirmed")["checks"][1]
    check |= {"parse": "int", "expect": "out > 1", "sampling": {"count": 3, "every": "20s"}}

    gate = restore(json.dumps(values)).runbook.steps[2]

    assert isinstance(gate, GateStep)
    command = gate.checks[1]
    assert isinstance(command, CommandCheck)
    assert (command.parse, command.code, command.timeout_s) == (Parse.INT, 0, 60)
    assert command.sampling == Sampling(count=3, every_s=20)


def test_a_rollback_with_a_reason_is_no_rollback_to_the_engine() -> None:
    values = raw()
    step(values, "production")["rollback"] = {"none": "a cache is emptied"}

    production = restore(json.dumps(values)).runbook.steps[6]

    assert isinstance(production, ScriptStep)
    assert production.rollback is None


def test_the_json_schema_is_for_editors() -> None:
    found = schema()

    assert json.loads(json.dumps(found)) == found
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert found["additionalProperties"] is False
    assert "from" in found["$defs"]["InputEdge"]["properties"]
    assert found["properties"]["deadline"]["type"] == "string"
    assert found["$defs"]["ScriptEdge"]["properties"]["image"]["examples"] == ["step", "step-ansible"]
