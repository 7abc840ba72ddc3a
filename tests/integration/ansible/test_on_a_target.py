"""Ansible in a step's VM, on a real target: drift is shown and mended; what a playbook must not do fails the step."""

from __future__ import annotations

import json

import pytest

from engine.domain.runbook import Access
from tests.integration.ansible.scene import CONFIG, WANTED, Scene, free_port, runbook_files

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

HEAD = """\
- name: The app
  hosts: target
  gather_facts: false
  vars: {ansible_remote_tmp: "/tmp/.a-{{ ansible_user }}"}
"""


def play(*tasks: str, hosts: str = "target") -> str:
    """A playbook of these tasks."""
    return HEAD.replace("hosts: target", f"hosts: {hosts}") + "  tasks:\n" + "".join(f"    - {one}\n" for one in tasks)


def test_drift_is_mended_and_the_rerun_changes_nothing(scene: Scene) -> None:
    scene.drift()

    mended = scene.play(runbook_files())

    assert mended.conclusion.ok, (mended.conclusion.reason, mended.result.stderr)
    assert mended.said["would_change"] == ["Keep what drifted", "Settings"]
    assert mended.said["changed"] == ["Keep what drifted", "Settings", "Reload"]  # a command has no check mode
    assert (mended.said["changed_again"], mended.said["drift"]) == ([], True)
    assert '+{"log_level": "info", "rotate_mb": 8}' in mended.result.stdout  # the diff of check mode
    assert scene.on_target(f"cat {CONFIG}") == WANTED
    assert scene.on_target(f"stat --format=%a {CONFIG}") == "664\n"
    assert [row.host for row in mended.result.connections if not row.allowed] == []


@pytest.mark.slow
def test_check_mode_shows_the_drift_to_a_reader_and_changes_nothing(scene: Scene) -> None:
    scene.drift()
    before = scene.world.tree()

    shown = scene.play(runbook_files(), user="reader", access=Access.READ)

    assert shown.conclusion.ok, shown.conclusion.reason
    assert (shown.said["drift"], CONFIG in shown.said["paths"]) == (True, True)
    assert shown.said["changed"] == []
    assert scene.world.tree() == before


@pytest.mark.slow
def test_where_nothing_drifted_nothing_is_shown(scene: Scene) -> None:
    assert scene.play(runbook_files()).conclusion.ok
    shown = scene.play(runbook_files(), user="reader", access=Access.READ)

    assert (shown.conclusion.ok, shown.said["drift"], shown.said["paths"]) == (True, False, [])


@pytest.mark.slow
def test_the_undoing_puts_back_what_drifted_and_is_idempotent_too(scene: Scene) -> None:
    scene.drift()
    assert scene.play(runbook_files()).conclusion.ok

    undone = scene.play(runbook_files(), playbook="play/undo.yml")

    assert undone.conclusion.ok, undone.conclusion.reason
    assert json.loads(scene.on_target(f"cat {CONFIG}")) == {"log_level": "debug"}
    assert scene.on_target("ls /srv/checkout | grep -c before || true") == "0\n"


@pytest.mark.slow
def test_a_second_run_that_changes_something_fails_the_step(scene: Scene) -> None:
    done = scene.play(play("{name: A line more, shell: date >>/tmp/again, changed_when: true}"))

    assert not done.conclusion.ok
    assert "not idempotent, changed again: A line more" in done.conclusion.reason
    assert done.said["changed_again"] == ["A line more"]


@pytest.mark.slow
def test_a_failed_check_is_the_end_of_it(scene: Scene) -> None:
    """The first task would change something; the second fails in check mode already: nothing was changed."""
    done = scene.play(
        play(
            "{name: First, copy: {content: x, dest: /tmp/first}}",
            "{name: Second, copy: {src: gone.conf, dest: /tmp/second}}",
        )
    )
    assert "check: a task failed: Second" in done.conclusion.reason
    assert (done.said["would_change"], done.said["paths"]) == (["First"], ["/tmp/first"])
    assert scene.on_target("ls /tmp/first 2>&1 || true").startswith("ls: ")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["closed port", "other host key"])
def test_a_target_that_is_not_there_or_is_not_it_fails(scene: Scene, how: str) -> None:
    stranger = scene.world.people["reader"].public
    odd = {"port": free_port()} if how == "closed port" else {"host_key": stranger}
    done = scene.play(play("{name: Look, stat: {path: /}}"), **odd)

    assert "check: the target could not be reached: Look" in done.conclusion.reason


@pytest.mark.slow
def test_a_play_for_nobody_fails(scene: Scene) -> None:
    done = scene.play(play("{name: Look, stat: {path: /}}") + play("{name: Look, stat: {path: /}}", hosts="web"))

    assert "no host matched the play The app" in done.conclusion.reason


@pytest.mark.slow
def test_whatever_a_playbook_says_of_the_connection_it_works_on_the_target(scene: Scene) -> None:
    """Lint refuses all this; and if it came through, nothing of it would run in the VM, beside the key."""
    inside = HEAD.replace("vars: {", "connection: local\n  vars: {ansible_connection: local, ansible_host: localhost, ")
    done = scene.play(inside + '  tasks:\n    - {name: Where, shell: "hostname >/tmp/where", changed_when: false}\n')
    assert done.conclusion.ok, done.conclusion.reason
    assert scene.on_target("cat /tmp/where") == "staging\n"

    away = scene.play(play("{name: Away, stat: {path: /}, delegate_to: localhost}"))
    assert "check: a task did not work on the target: Away on localhost" in away.conclusion.reason


@pytest.mark.slow
def test_failures_that_were_passed_over_are_shown_and_secrets_are_not(scene: Scene) -> None:
    done = scene.play(
        play(
            "{name: Ignored, stat: {path: /}, failed_when: true, ignore_errors: true}",
            "{block: [{name: Rescued, stat: {path: /}, failed_when: true}], rescue: [{name: Saved, stat: {path: /}}]}",
            "{name: Hidden, copy: {content: hunter2, dest: /tmp/hidden}, no_log: true}",
        )
    )
    assert done.conclusion.ok, done.conclusion.reason
    assert [said.partition(":")[0] for said in done.said["ignored"]] == ["Ignored"]
    assert [said.partition(":")[0] for said in done.said["rescued"]] == ["Rescued"]
    assert "passed over: Ignored" in done.result.stdout
    assert "hunter2" not in done.result.stdout + done.result.stderr
