"""An ansible step's VM: our inventory and connection, the inputs as a file; and what its report comes to."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from engine.domain import archive
from engine.domain.errors import BadInput
from engine.domain.journey import Role
from engine.domain.ports import Ending, SecretValue
from engine.domain.runbook import PLAY_OUTPUT, Access, Login, OutputRule, Script, Tool
from engine.domain.runners import Order
from engine.runtime import session
from engine.runtime.runners.agent import AgentRunner
from engine.runtime.runners.ansible import AnsibleRunner
from engine.runtime.runners.by_tool import RunnerByTool
from engine.runtime.runners.script import ScriptRunner
from engine.runtime.runners.terraform import TerraformRunner
from tests.unit.runtime.orders import STEP, TARGET, order, result

RUNNER = AnsibleRunner()
KEY = SecretValue(name="fix_key", value="k")
SITE = Script(file="play/site.yml")
PLAY = {"play/site.yml": b"- hosts: target\n", "play/files/app.conf": b"x=1\n"}
FOLDER = {"site.yml": b"- hosts: target\n", "files/app.conf": b"x=1\n"}
WRITES = replace(
    STEP,
    script=SITE,
    access=Access.WRITE,
    login=Login(user="fixer", key="fix_key"),
    image="step-ansible",
    tool=Tool.ANSIBLE,
    output=OutputRule(required=PLAY_OUTPUT),
)
SAID: dict[str, Any] = {name: [] for name in PLAY_OUTPUT} | {"drift": True, "tasks": 2}


def made(step: Any = WRITES, role: Role = Role.FORWARD, **more: Any) -> Order:
    one = order(step, role, **more)
    return replace(one, snapshot=replace(one.snapshot, files={**PLAY, "fix.sh": b"#!/bin/sh\n"}))


def contents(one: Order) -> dict[str, bytes]:
    return {file.path: file.content for file in RUNNER.task(one, (KEY,)).files}


def test_a_change_is_shown_run_and_run_again_and_a_look_only_shown() -> None:
    task = RUNNER.task(made(), (KEY,))
    session.check(task)
    program = ("/usr/bin/python3", "/step/ansible/play.py", "/step/runbook/play/site.yml")
    assert task.argv == (*program, "check", "run", "rerun")
    assert (task.image, task.outlives_worker) == ("step-ansible", True)
    assert RUNNER.task(made(replace(WRITES, access=Access.READ)), (KEY,)).argv == (*program, "check")


def test_the_inventory_is_the_steps_target_whatever_the_folder_says() -> None:
    """The connection stands in the extra variables, above every other; host key and key are the script runner's."""
    files = contents(made())
    variables = json.loads(files["/step/ansible/vars.json"])

    assert json.loads(files["/step/ansible/hosts.json"]) == {"all": {"hosts": {"target": {}}}}
    assert variables["ansible_connection"] == "ssh"
    assert (variables["ansible_host"], variables["ansible_port"]) == ("target", TARGET.port)
    assert (variables["ansible_user"], variables["ansible_ssh_private_key_file"]) == ("fixer", "/run/secrets/fix_key")
    assert variables["ansible_ssh_common_args"] == variables["ansible_ssh_extra_args"] == ""
    assert b"StrictHostKeyChecking yes" in files["/step/.ssh/config"]
    assert b"host_key_checking = True" in files["/step/ansible/ansible.cfg"]


def test_an_input_is_text_in_a_file_and_is_never_filled_in_again() -> None:
    one = made(inputs={"unit": "{{ lookup('pipe', 'id') }}"})
    variables = json.loads(contents(one)["/step/ansible/vars.json"])

    assert variables["input_unit"] == {"__ansible_unsafe": "{{ lookup('pipe', 'id') }}"}
    assert "lookup" not in " ".join(RUNNER.task(one, (KEY,)).argv)


def test_the_artefact_is_the_playbooks_folder_or_there_is_no_task() -> None:
    """What was linted is what was tested is what is approved is what is applied."""
    assert RUNNER.task(made(artefact=archive.pack(FOLDER)), (KEY,))
    for other in (
        {**FOLDER, "site.yml": b"- hosts: all\n"},
        {**FOLDER, "more.yml": b""},
        {"site.yml": b"- hosts: tar"},
    ):
        with pytest.raises(BadInput, match="the artefact is not the playbook's folder"):
            RUNNER.task(made(artefact=archive.pack(other)), (KEY,))


def test_without_a_target_and_a_login_there_is_no_task() -> None:
    with pytest.raises(BadInput, match="no target to log in to"):
        RUNNER.task(made(replace(WRITES, login=None)), ())
    with pytest.raises(BadInput, match="no target to log in to"):
        RUNNER.task(made(target=None), (KEY,))


def test_the_report_is_the_output_also_of_what_did_not_work() -> None:
    good = RUNNER.conclude(made(), result(stdout=f"== check\n{json.dumps(SAID)}\n"))
    assert (good.ok, good.output) == (True, SAID)

    bad = {**SAID, "why": "rerun: it is not idempotent, changed again: Settings"}
    failed = RUNNER.conclude(made(), result(stdout=json.dumps(bad), code=1))
    assert (failed.ok, failed.output) == (False, bad)
    assert failed.reason == "the playbook did not work: rerun: it is not idempotent, changed again: Settings"


@pytest.mark.parametrize(
    "change",
    [
        {"stdout": ""},
        {"stdout": "nonsense"},
        {"stdout": "[1]"},
        {"stdout": '{"drift": true}'},
        {"stdout": json.dumps(SAID), "truncated": True},
        {"stdout": json.dumps(SAID), "ending": Ending.TIMED_OUT, "code": None},
        {"stdout": json.dumps(SAID), "reason": "it met its limit of memory"},
    ],
)
def test_without_a_whole_report_it_did_not_work(change: dict[str, Any]) -> None:
    assert not RUNNER.conclude(made(), result(**change)).ok


def test_a_rollback_is_a_playbook_of_the_same_folder() -> None:
    one = made(role=Role.ROLLBACK)
    one = replace(one, leg=replace(one.leg, script=Script(file="play/files/app.conf")))
    assert RUNNER.task(one, (KEY,)).argv[2:] == ("/step/runbook/play/files/app.conf", "check", "run", "rerun")
    assert RUNNER.conclude(one, result(stdout=json.dumps(SAID))).ok


def test_each_order_goes_to_the_runner_of_its_tool() -> None:
    runner = RunnerByTool()
    assert (
        runner.version
        == f"{ScriptRunner.version} {AnsibleRunner.version} {TerraformRunner.version} {AgentRunner.version}"
    )
    assert runner.task(made(), (KEY,)).argv[1] == "/step/ansible/play.py"
    assert runner.task(order(), ()).argv == ("/step/runbook/fix.sh", "/srv/data")
