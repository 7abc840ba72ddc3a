"""What holds of digests, templates and journeys whatever they are given."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain import digest, template
from engine.domain.errors import BadInput
from engine.domain.gate import CommandCheck
from engine.domain.journey import Journey, LegKind, Role, plan
from engine.domain.runbook import (
    Access,
    CloseStep,
    Escalate,
    GateStep,
    Grant,
    ReceiveStep,
    Rollback,
    Runbook,
    Script,
    ScriptStep,
    Step,
)

TEXT = st.text(max_size=12)
SHA256 = re.compile(r"sha256:[0-9a-f]{64}")

# -- digests

CONTENTS = st.fixed_dictionaries(
    {
        "artefact": st.none() | TEXT,
        "runner": TEXT,
        "script": TEXT,
        "args": st.lists(TEXT, max_size=3),
        "image": TEXT,
        "policy": TEXT,
    }
)
ORDER: dict[str, Any] = {
    "content": "c",
    "artefact": "a",
    "run": "r",
    "leg": "l",
    "target": {"host": "production", "port": 22},
    "args": ["--mount", "/srv"],
    "inputs": {"mount": "/srv"},
    "grant": {"network": ["production:22"], "secrets": []},
    "rollback": "b",
    "runbook": "k",
    "evidence": ["e1", "e2"],
}


@given(CONTENTS, CONTENTS)
def test_content_digests_are_equal_exactly_when_the_contents_are(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert SHA256.fullmatch(digest.content_digest(**one))
    assert (digest.content_digest(**one) == digest.content_digest(**two)) == (one == two)


@given(CONTENTS, st.sampled_from(["artefact", "runner", "script", "image", "policy"]), TEXT)
def test_one_field_of_the_content_is_enough_for_another_digest(content: dict[str, Any], field: str, value: str) -> None:
    same = content[field] == value

    assert (digest.content_digest(**(content | {field: value})) == digest.content_digest(**content)) == same


@given(st.lists(TEXT, max_size=4), st.lists(TEXT, max_size=4))
def test_where_one_argument_ends_and_the_next_begins_is_part_of_the_content(one: list[str], two: list[str]) -> None:
    rest: dict[str, Any] = {"artefact": None, "runner": "r", "script": "s", "image": "i", "policy": "p"}

    assert (digest.content_digest(args=one, **rest) == digest.content_digest(args=two, **rest)) == (one == two)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("content", "other"),
        ("artefact", "other"),
        ("artefact", None),
        ("run", "other"),
        ("leg", "other"),
        ("target", {"host": "production", "port": 2222}),
        ("args", ["/srv", "--mount"]),
        ("args", ["--mount /srv"]),
        ("inputs", {"mount": "/"}),
        ("inputs", {}),
        ("grant", {"network": ["production:22", "vault:8200"], "secrets": []}),
        ("rollback", None),
        ("rollback", "other"),
        ("runbook", "other"),
        ("evidence", ["e1"]),
        ("evidence", ["e2", "e1"]),
    ],
)
def test_an_approval_is_bound_to_every_field_of_the_order(field: str, value: Any) -> None:
    assert digest.order_digest(**(ORDER | {field: value})) != digest.order_digest(**ORDER)


def test_every_field_of_the_order_is_tried_above() -> None:
    assert set(ORDER) == set(digest.order_digest.__annotations__) - {"return"}


def test_the_order_of_keys_is_no_part_of_an_order() -> None:
    turned = ORDER | {"target": dict(reversed(ORDER["target"].items()))}

    assert digest.order_digest(**turned) == digest.order_digest(**ORDER)


FILES = st.dictionaries(TEXT, st.binary(max_size=8), max_size=3)


@given(TEXT, FILES, TEXT, FILES)
def test_a_snapshot_is_its_text_and_every_file(
    text: str, files: dict[str, bytes], other_text: str, other_files: dict[str, bytes]
) -> None:
    same = (text, files) == (other_text, other_files)

    assert (digest.snapshot_digest(text, files) == digest.snapshot_digest(other_text, other_files)) == same


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"x", object()])
def test_what_has_no_canonical_form_has_no_digest(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        digest.of_value(value)


# -- templates

NAME = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
PLAIN = st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"]), max_size=20)


@given(st.dictionaries(NAME, st.text(max_size=20), min_size=1, max_size=4), st.data())
def test_a_placeholder_becomes_its_value_and_nothing_else_changes(values: dict[str, str], data: st.DataObject) -> None:
    pieces = data.draw(st.lists(PLAIN, min_size=1, max_size=4))
    names = data.draw(st.lists(st.sampled_from(sorted(values)), min_size=len(pieces) - 1, max_size=len(pieces) - 1))
    blanks = data.draw(st.sampled_from(["", " ", "  "]))
    text = pieces[0] + "".join(f"{{{{{blanks}inputs.{n}{blanks}}}}}{p}" for n, p in zip(names, pieces[1:], strict=True))
    expected = pieces[0] + "".join(values[name] + piece for name, piece in zip(names, pieces[1:], strict=True))

    assert template.fill(text, {"inputs": values}) == expected
    assert template.names(text) == {("inputs", name) for name in names}


@given(NAME, st.text(max_size=40))
def test_a_value_is_never_read_as_a_template_again(name: str, rest: str) -> None:
    """Values come from alerts: a second pass would let a label name what it likes."""
    value = f"{{{{ target.host }}}}{rest}"

    assert template.fill(f"{{{{ inputs.{name} }}}}", {"inputs": {name: value}, "target": {"host": "x"}}) == value


@given(NAME, NAME)
def test_an_unknown_name_is_bad_input(space: str, name: str) -> None:
    with pytest.raises(BadInput, match="unknown placeholder"):
        template.fill(f"{{{{ {space}.{name} }}}}", {space: {}})


@given(NAME)
def test_a_kept_namespace_is_filled_by_a_later_pass(name: str) -> None:
    text = f"{{{{ target.{name} }}}}/{{{{ inputs.{name} }}}}"

    first = template.fill(text, {"inputs": {name: "i"}}, keep=frozenset({"target"}))

    assert template.fill(first, {"target": {name: "t"}}) == "t/i"


@given(st.text(st.sampled_from("{} .ab_|()"), max_size=30))
def test_any_braces_are_filled_left_alone_or_refused(text: str) -> None:
    try:
        filled = template.fill(text, {"a": {"b": "value"}})
    except BadInput:
        return
    assert "{{" not in filled


# -- journeys

CHECKS = (CommandCheck(id="c", target="t", run=("true",), expect="true"),)


def script(name: str, rollback: bool, rehearse: bool) -> ScriptStep:
    return ScriptStep(
        id=name,
        script=Script(file="do.sh"),
        target="t",
        access=Access.WRITE if rollback else Access.READ,
        grant=Grant(),
        login=None,
        image="step",
        memory_mb=384,
        timeout_s=60,
        idempotent=False,
        rollback=Rollback(script=Script(file="undo.sh"), checks=CHECKS) if rollback else None,
        rehearse=rehearse,
    )


@st.composite
def runbooks(draw: st.DrawFn) -> Runbook:
    """Receive, any number of script and gate steps, close."""
    steps: list[Step] = [ReceiveStep(id="receive")]
    for number in range(draw(st.integers(0, 5))):
        if draw(st.booleans()):
            steps.append(script(f"s{number}", draw(st.booleans()), draw(st.booleans())))
        else:
            steps.append(GateStep(id=f"g{number}", of=steps[-1].id, checks=CHECKS, fresh_for_s=60))
    return Runbook(
        name="any",
        title="Any",
        owner="us",
        alertnames=("A",),
        severities=(),
        deadline_s=3600,
        inputs=(),
        targets={},
        escalate=Escalate(to="us", after_s=60),
        steps=(*steps, CloseStep(id="close")),
    )


def lines(journey: Journey) -> tuple[tuple[Any, ...], ...]:
    return (journey.line, *journey.rollbacks)


@given(runbooks())
def test_a_journey_has_every_step_once_in_its_order_between_receive_and_close(runbook: Runbook) -> None:
    line = plan(runbook).line

    assert line[0].kind is LegKind.RECEIVE
    assert line[-1].kind is LegKind.CLOSE
    assert [leg.id for leg in line if leg.id in {step.id for step in runbook.steps}] == [s.id for s in runbook.steps]


@given(runbooks())
def test_legs_have_names_of_their_own_and_are_found_by_them(runbook: Runbook) -> None:
    journey = plan(runbook)
    legs = [leg for line in lines(journey) for leg in line]

    assert len({leg.id for leg in legs}) == len(legs)
    assert all(journey.leg(leg.id) is leg for leg in legs)


@given(runbooks())
def test_every_leg_but_the_last_of_a_line_leads_to_the_next(runbook: Runbook) -> None:
    journey = plan(runbook)

    for line in lines(journey):
        assert all(journey.after(here.id) is following for here, following in itertools.pairwise(line))
        with pytest.raises(KeyError):
            journey.after(line[-1].id)


@given(runbooks())
def test_what_is_rehearsed_is_done_undone_measured_and_done_again(runbook: Runbook) -> None:
    line = plan(runbook).line

    for at, leg in enumerate(line):
        if leg.role is Role.REHEARSAL:
            step, around = leg.step.id, line[at : at + 4]
            assert [one.id for one in around] == [f"{step}:rehearse", f"{step}:rollback", f"{step}:rollback-gate", step]
            assert around[0].script == around[3].script != around[1].script


@given(runbooks())
def test_a_rollback_is_followed_by_the_gate_that_measures_it(runbook: Runbook) -> None:
    for line in lines(plan(runbook)):
        for here, following in itertools.pairwise(line):
            if here.role is Role.ROLLBACK and here.kind is LegKind.ATTEMPT:
                assert following.kind is LegKind.GATE
                assert following.of == here.id
                assert following.checks


@given(runbooks())
def test_each_way_back_that_was_not_rehearsed_has_a_line_entered_by_decision_only(runbook: Runbook) -> None:
    journey = plan(runbook)

    for step in runbook.steps:
        if isinstance(step, ScriptStep):
            way_back = journey.rollback_of(step.id)
            assert (way_back is not None) == (step.rollback is not None and not step.rehearse)
    assert all(line[-1].kind is LegKind.ROLLED_BACK for line in journey.rollbacks)
    assert all(leg.role is Role.ROLLBACK for line in journey.rollbacks for leg in line)


@given(runbooks())
def test_the_gate_before_a_leg_is_the_nearest_one_that_was_passed(runbook: Runbook) -> None:
    journey = plan(runbook)
    nearest = None

    for leg in journey.line:
        assert journey.gate_before(leg.id) is nearest
        nearest = leg if leg.kind is LegKind.GATE else nearest
