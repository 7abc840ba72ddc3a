"""What gates are told by the machine, what it keeps of them, and the verifier's way into a database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from engine.domain.databases import DatabaseProbe
from engine.domain.errors import BadInput, Refused
from engine.domain.gate import Check, DiffCheck, HttpCheck, PolicyCheck, PolicyRule, QuorumCheck
from engine.domain.ports import Ending, TaskResult
from engine.domain.runbook import DatabaseLogin, GateStep, Grant, SecretRef
from engine.domain.states import AttemptState, Decision, RunState, Verdict
from engine.orchestration.performing import Running, Verifier
from engine.secrets.policy import policies_of
from tests.doubles.engine import ended
from tests.integration.engine.conftest import ANA, Box

SCOPE = DiffCheck(id="scope", of="fix", allow=("*",), max_files=1, max_lines=1)
NEW = HttpCheck(id="new", target="staging", path="/new", expect="true")


def put(box: Box, gate: str, edit: Callable[[GateStep], GateStep]) -> None:
    """Bend a gate of the runbook that runs begin with."""
    steps = tuple(
        edit(step) if isinstance(step, GateStep) and step.id == gate else step for step in box.shelf.runbook.steps
    )
    box.shelf.runbook = replace(box.shelf.runbook, steps=steps)


def add(box: Box, gate: str, *checks: Check) -> None:
    put(box, gate, lambda step: replace(step, checks=(*step.checks, *checks)))


def test_a_check_that_looks_into_an_artefact_gets_its_bytes_and_others_none(box: Box) -> None:
    add(box, "tests-pass", SCOPE)
    add(box, "confirmed", replace(SCOPE, id="too-early"))
    box.until_approval()

    assert box.gates.told["scope"].artefacts == {"fix": b"the fix"}
    assert box.gates.told["too-early"].artefacts == {}


def test_only_what_the_checks_name_is_read(box: Box) -> None:
    rules = (PolicyRule(id="r", expect="true"),)
    add(box, "tests-pass", PolicyCheck(id="of-output", of="fix", rules=rules))
    box.until_approval()

    assert box.gates.told["of-output"].artefacts == {}


def test_a_gate_knows_when_its_change_began_and_ended(box: Box) -> None:
    """Of a change that was tried twice it began with the first: what was before is not what a half change left."""
    box.hypervisor.behaviour["staging"] = lambda: ended(Ending.EXITED, 1, "broken")
    box.fire()
    box.go()
    assert box.run().state is RunState.HALTED
    box.hypervisor.behaviour.clear()
    box.service.decide(box.run().escalations[-1].token, ANA, Decision.RETRY)
    box.go()

    tried = [attempt for attempt in box.run().attempts if attempt.leg == "staging"]
    facts = box.gates.told["tests-inside"]
    assert [attempt.state for attempt in tried] == [AttemptState.FAILED, AttemptState.FINISHED]
    assert (facts.begun_at, facts.changed_at) == (tried[0].started_at, tried[-1].ended_at)
    before = box.gates.told["confirmed-inside"]
    assert before.changed_at is None
    assert before.begun_at is not None


@pytest.mark.parametrize("verdict", [Verdict.FAILED, Verdict.HELD])
def test_a_check_in_shadow_is_kept_and_shown_and_does_not_count(box: Box, verdict: Verdict) -> None:
    put(box, "tests-pass", lambda step: replace(step, shadow=(NEW,)))
    box.gates.verdicts["new"] = verdict
    box.until_approval()
    found = next(one for one in box.run().verdicts if one.leg == "tests-pass")

    assert found.verdict is Verdict.HELD
    assert f"in shadow, new {verdict}" in found.why
    assert [(check.check_id, check.verdict) for check in found.checks if check.shadow] == [("new", verdict)]


def test_a_check_in_shadow_saves_no_gate(box: Box) -> None:
    put(box, "tests-pass", lambda step: replace(step, checks=(), shadow=(NEW,)))
    box.fire()
    box.go()

    assert box.run().state is RunState.HALTED
    assert "production" not in box.hypervisor.ran


def test_a_quorum_that_is_met_opens_and_its_evidence_is_kept(box: Box) -> None:
    members = tuple(replace(NEW, id=name, path=f"/{name}") for name in ("a", "b", "c"))
    put(
        box,
        "tests-pass",
        lambda step: replace(step, checks=(QuorumCheck(id="two", need=2, checks=members), step.checks[-1])),
    )
    box.gates.verdicts["b"] = Verdict.FAILED
    box.until_approval()
    found = next(one for one in box.run().verdicts if one.leg == "tests-pass")

    assert found.checks[0].why == "2 of 3 held, 2 needed; not b"
    assert isinstance(found.checks[0].samples, list)
    assert '"c"' in str(found.checks[0].samples).replace("'", '"')


def test_a_quorum_that_is_not_met_keeps_production_untouched(box: Box) -> None:
    members = tuple(replace(NEW, id=name, path=f"/{name}") for name in ("a", "b", "c"))
    add(box, "tests-pass", QuorumCheck(id="two", need=2, checks=members))
    box.gates.verdicts |= {"a": Verdict.FAILED, "b": Verdict.INCONCLUSIVE}
    box.fire()
    box.go()

    assert box.run().state is RunState.HALTED
    assert "production" not in box.hypervisor.ran


def test_what_will_be_applied_is_compared_with_what_was_tested_before_it_is_applied(box: Box) -> None:
    """An image that changed after staging: the digest check of the gate before production finds it, and nothing ran."""

    def staging_runs_and_the_image_is_built_anew() -> TaskResult:
        box.hypervisor.image = b"another image"
        return ended()

    box.hypervisor.behaviour["staging"] = staging_runs_and_the_image_is_built_anew
    box.fire()
    box.go()
    run = box.run()

    assert run.state is RunState.HALTED
    (same,) = [check for check in run.verdicts[-1].checks if check.check_id == "same"]
    assert (run.verdicts[-1].leg, same.verdict) == ("tests-pass", Verdict.FAILED)
    assert "production" not in box.hypervisor.ran


# -- the verifier's way into a database

LOGIN = DatabaseLogin(
    port=5432,
    name="shop",
    user="gate",
    grant=Grant(secrets=(SecretRef(name="db", engine="kv", path="kv/data/toy/gate-db", fields=("password",)),)),
)


def verifier(box: Box, login: DatabaseLogin | None = LOGIN) -> Verifier:
    targets = box.shelf.runbook.targets
    box.shelf.runbook = replace(
        box.shelf.runbook, targets={**targets, "production": replace(targets["production"], database=login)}
    )
    return Verifier(box.adapters, Running(box.adapters), box.shelf.read("toy"), "run-1")


def test_a_verifier_enters_a_database_by_its_own_secret_which_dies_at_the_end(box: Box) -> None:
    enters = verifier(box)
    assert isinstance(enters, DatabaseProbe)
    with enters.database("production", 5) as access:
        assert (access.host, access.port, access.name, access.user) == ("production.toy", 5432, "shop", "gate")
        assert access.password == "what is at kv/data/toy/gate-db"
        assert access.password not in repr(access)
        (opened,) = box.secrets.log
    assert box.secrets.log == [opened, opened.replace("opened", "closed")]


def test_a_secret_that_lives_on_is_told_and_so_the_check_does_not_hold(box: Box) -> None:
    box.secrets.broken_close = True

    with pytest.raises(Refused, match="could not be proved dead"), verifier(box).database("production", 5):
        pass


def test_the_secret_dies_also_when_measuring_breaks(box: Box) -> None:
    with pytest.raises(ZeroDivisionError), verifier(box).database("production", 5):
        raise ZeroDivisionError

    assert box.secrets.log[-1].startswith("closed")


def test_a_target_without_a_database_is_not_entered(box: Box) -> None:
    with pytest.raises(BadInput, match="has no `database`"), verifier(box, None).database("production", 5):
        pass

    assert box.secrets.log == []


def test_the_verifiers_password_has_a_policy_of_its_own(box: Box) -> None:
    without = policies_of(verifier(box, None).snapshot.runbook)
    with_it = policies_of(verifier(box).snapshot.runbook)

    (new,) = set(with_it) - set(without)
    assert new.paths == ("kv/data/toy/gate-db",)
