"""Quorums and controls are proved part by part, and as the whole that they are."""

from __future__ import annotations

import pytest

from tests.unit.proving.folders import NAME, Folder

ANSWERS = (
    "      - {id: answers, type: http, target: production, path: /healthz, "
    "expect: status == 200 && json.ok == true, sampling: {count: 3, every: 2s}}\n"
)
QUORUM = """\
      - id: two
        type: quorum
        need: 2
        checks:
          - {id: page, type: http, target: production, path: /, expect: status == 200,
             control: {path: /healthz, expect: status == 200}}
          - {id: level, type: command, target: production, run: [cat, /srv/level], expect: 'out == "info"'}
          - {id: port, type: http, target: production, path: /port, expect: status == 204}
"""
EXAMPLES = """\
    page:
      good: [{status: 200}]
      bad: [{status: 199}, {status: 201}]
    page.control:
      good: [{status: 200}]
      bad: [{status: 199}, {status: 201}, {silent: true}]
    level:
      good: [{stdout: info}]
      bad: [{stdout: debug}]
    port:
      good: [{status: 204}]
      bad: [{status: 203}, {status: 205}]
"""
GATE = "  production-healthy:\n"


@pytest.fixture
def quorum(folder: Folder) -> Folder:
    """The demo's last gate with two of three more, one of which has a control."""
    folder.edit(ANSWERS, ANSWERS + QUORUM, file=f"{NAME}.yaml")
    folder.edit(GATE, GATE + EXAMPLES)
    return folder


def test_every_part_and_the_quorum_itself_are_seen_both_ways(quorum: Folder) -> None:
    proof = quorum.prove()

    assert proof.problems == ()
    found = {one.check: one for one in proof.checks if one.gate == "production-healthy"}
    assert set(found) > {"page", "page.control", "level", "port", "two"}
    assert found["two"].type == "quorum"
    assert found["two"].mutants == 6
    assert [one for one in proof.survivors if one.check in {"page", "page.control", "level", "port", "two"}] == []
    assert all(one.green and one.red and one.no_data for one in found.values())


def test_a_control_without_examples_is_no_proof(quorum: Folder) -> None:
    quorum.edit(EXAMPLES, EXAMPLES.replace("page.control", "page.controls"))

    assert any("production-healthy.page.control has no examples" in problem for problem in quorum.problems())


def test_a_member_that_is_never_red_is_found(quorum: Folder) -> None:
    quorum.edit("bad: [{stdout: debug}]", "bad: [{stdout: info}]")

    assert any("production-healthy.level: bad[0]" in problem for problem in quorum.problems())
