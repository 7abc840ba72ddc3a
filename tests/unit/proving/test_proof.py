"""Gates that can fail are told from those that cannot: examples that miss something, gates that are wrong."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from engine.cli import cli
from engine.proving import proof as proof_module
from engine.proving.proof import MUST_DIE
from tests.unit.proving.folders import NAME, Folder


def test_the_demos_gates_can_fail(folder: Folder) -> None:
    proof = folder.prove()

    assert proof.problems == ()
    assert proof.mutants > 150
    assert len(proof.survivors) <= (1 - MUST_DIE) * proof.mutants
    assert all(one.green and one.red and one.no_data for one in proof.checks)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("parse: percent, expect: out > 80}", "parse: percent, expect: out > 8}", "diagnosis-confirmed.full: bad[0]"),
        ("parse: percent, expect: out > 80}", "parse: percent, expect: out > 90}", "diagnosis-confirmed.full: good[1]"),
        ("expect: size(result) == 1, max_age: 15s", "expect: size(result) == 1, max_age: 60s", "debug: bad[2]"),
        ("sampling: {count: 3, every: 2s}", "sampling: {count: 2, every: 2s}", "production-healthy.answers: bad[2]"),
    ],
)
def test_a_gate_that_is_not_as_its_examples_say_is_found(folder: Folder, old: str, new: str, says: str) -> None:
    folder.edit(old, new, file=f"{NAME}.yaml")

    assert says in "\n".join(folder.problems())


@pytest.mark.parametrize(
    ("old", "new", "survivor"),
    [
        (
            '[{stdout: "Use%\\n 93%\\n"}, {stdout: "Use%\\n 81%\\n"}]',
            '[{stdout: "Use%\\n 93%\\n"}]',
            "expect: out > 81",
        ),
        (
            'bad: [{stdout: "Use%\\n 80%\\n"}, {stdout: "Use%\\n 12%\\n"}]',
            'bad: [{stdout: "Use%\\n 12%\\n"}]',
            "out >= 80",
        ),
        ("        - {output: {cause: unknown}, verdict: inconclusive} ", "        #", "unless: removed"),
        ("[{vector: []}, {vector: [1, 1]}, {vector: [1], age: 16, verdict: inconclusive}]", "[{vector: []}]", ""),
    ],
)
def test_examples_that_miss_an_edge_let_a_mutant_live(folder: Folder, old: str, new: str, survivor: str) -> None:
    folder.edit(old, new)

    lived = [what for _, _, what in folder.survivors()]
    assert [what for what in lived if survivor in what] != [] if survivor else lived == []


def test_a_second_that_is_too_old_is_noticed_without_an_example(folder: Folder) -> None:
    """What must never hold is derived: nobody has to think of it."""
    folder.edit_all(", age: 16, verdict: inconclusive}", ", age: 1, verdict: failed}")

    assert {what for _, _, what in folder.survivors() if what.startswith(("max_age", "no data", "code"))} == set()


def test_too_few_that_die_are_a_problem_and_the_survivors_are_named(folder: Folder) -> None:
    folder.edit_all("79%", "5%")
    folder.edit_all("81%", "93%")
    folder.edit_all("80%", "93%")
    folder.edit_all("vector: [0.799]", "vector: [0.1]")
    folder.edit_all("vector: [0.8]", "vector: [0.99]")

    assert any("fewer than 95%" in problem for problem in folder.problems() if "mutants died" in problem)
    assert ("tests-pass", "room", "expect: out < 81") in folder.survivors()


def survivors(*entries: str) -> str:
    return "survivors:\n" + "".join(f"  - {entry}\n" for entry in entries)


def test_a_survivor_may_be_declared_with_a_reason(folder: Folder) -> None:
    folder.edit('{stdout: "Use%\\n 81%\\n"}', '{stdout: "Use%\\n 82%\\n"}')
    assert folder.survivors() == {("diagnosis-confirmed", "full", "expect: out > 81")}

    because = "because: nobody cares for one percent}"
    entry = '{gate: diagnosis-confirmed, check: full, mutant: "expect: out > 81", ' + because
    folder.tests.write_text(folder.tests.read_text() + survivors(entry))
    proof = folder.prove()

    assert proof.problems == ()
    assert [one.because for one in proof.survivors] == ["nobody cares for one percent"]


def test_a_survivor_that_dies_after_all_must_not_stay_declared(folder: Folder) -> None:
    entry = '{gate: tests-pass, check: room, mutant: "expect: out < 81", because: it was so once upon a time}'
    folder.tests.write_text(folder.tests.read_text() + survivors(entry))

    assert folder.problems() == (
        "tests-pass.room: the mutant `expect: out < 81` is declared to survive and does not; remove it",
    )


def test_not_everything_may_be_declared_to_survive(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof_module, "MAY_BE_DECLARED", 0.001)
    folder.edit('{stdout: "Use%\\n 81%\\n"}', '{stdout: "Use%\\n 82%\\n"}')
    entry = '{gate: diagnosis-confirmed, check: full, mutant: "expect: out > 81", because: nobody has time for it}'
    folder.tests.write_text(folder.tests.read_text() + survivors(entry))

    assert "1 of 170 mutants are declared to survive, more than" in "\n".join(folder.problems())


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("schema: tests/v1", "schema: tests/v2", "disk-full/tests.yaml:3: schema - "),
        ("schema: tests/v1", "schema: tests/v1\nsurprise: 1", "surprise - extra inputs"),
        ("    cause:\n", "    causes:\n", "diagnosis-confirmed.causes is no check"),
        ("mount: /srv}", "mount: /etc}", "input mount is out of its bounds - write one of "),
        ("mount: /srv}", "mount: /srv, unit: web}", "input unit is unknown - known: "),
        ("cause: leaked_file}}", "cause: leaked_file}, verdict: held}", "verdict - input should be 'failed'"),
        ("{output: {cause: leaked_file}}", "{stdout: leaked}", "stdout - extra inputs"),
        ("{output: {cause: leaked_file}}", "{output: 3}", "output - input should be a valid dictionary"),
        ("[{output: {cause: log_growth,", "[{verdict: failed, output: {cause: log_growth,", "a good example holds"),
        ("{vector: [0.801], age: 15}]", "{vector: [0.801], age: new}]", "age.float"),
    ],
)
def test_what_does_not_read_is_told_with_its_line(folder: Folder, old: str, new: str, says: str) -> None:
    folder.edit(old, new)

    assert says in "\n".join(folder.problems())


def test_a_check_without_examples_and_a_runbook_without_tests_are_not_proved(folder: Folder) -> None:
    text = folder.tests.read_text()
    folder.tests.write_text(text[: text.index("  production:rollback-gate:")])
    assert len([line for line in folder.problems() if "has no examples" in line]) == 2

    folder.tests.unlink()
    assert folder.problems() == ("there is no disk-full/tests.yaml",)


def test_the_command_prints_a_table_and_fails_when_a_gate_was_not_seen_both_ways(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNALBOX_RUNBOOKS", str(folder.path))
    well = CliRunner().invoke(cli, ["runbook", "test"])
    assert (well.exit_code, "mutants died; its gates can fail" in well.output) == (0, True)

    folder.edit('bad: [{stdout: "Use%\\n 80%\\n"}, {stdout: "Use%\\n 12%\\n"}]', 'bad: [{stdout: "Use%\\n 99%\\n"}]')
    ill = CliRunner().invoke(cli, ["runbook", "test", NAME])
    assert ill.exit_code == 1
    assert "problem: diagnosis-confirmed.full: bad[0] must not hold, and is held" in ill.output

    told = CliRunner().invoke(cli, ["runbook", "test", NAME, "--json"])
    assert json.loads(told.output)[0]["checks"][0]["gate"] == "diagnosis-confirmed"
