"""The terraform runner without a VM: what it sends, and what it makes of what comes back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from engine.domain import archive
from engine.domain.errors import BadInput
from engine.domain.journey import Role
from engine.domain.ports import Ending, SecretValue, VmTask
from engine.domain.runners import Order
from engine.runtime.runners.by_tool import RunnerByTool
from engine.secrets.redact import Redactor
from tests.integration.terraform.bench import apply_step, order, plan_step
from tests.unit.runtime.orders import order as script_order
from tests.unit.runtime.orders import result
from tests.unit.runtime.test_terraform_changes import shown

RUNNER = RunnerByTool()
FILES = {"volume/main.tf": b"# here\n", "volume/terraform.lock.hcl": b"# locked\n"}
WORD = (SecretValue(name="word", value="s3cret-word"),)
PLAN = order(plan_step("staging", "http://staging.volumes.example:8080", size_gb=60), FILES)


def made(plan: Order = PLAN, **more: Any) -> bytes:
    """The artefact of a plan."""
    files = {"plan.tfplan": b"the plan file", "shown.json": json.dumps(shown() | more).encode()}
    conclusion = RUNNER.conclude(plan, result(files=files))
    assert conclusion.reason == ""
    return conclusion.artefact or b""


def job(task: VmTask) -> dict[str, Any]:
    """What Terraform is told."""
    found: dict[str, Any] = json.loads(next(file.content for file in task.files if file.path.endswith("/job.json")))
    return found


def test_a_plan_is_told_its_variables_its_backend_and_where_its_secrets_lie() -> None:
    task = RUNNER.task(PLAN, WORD)

    told = job(task)
    assert told["action"] == "plan"
    assert told["variables"] == {"endpoint": "http://staging.volumes.example:8080", "size_gb": "60"}
    assert told["backend"]["address"] == "http://staging.volumes.example:8080/state"
    assert told["env"] == {"TF_HTTP_PASSWORD": "word", "VOLUMES_TOKEN": "word"}
    assert "s3cret-word" not in str(told)
    assert (task.image, task.memory_mb, task.collect, task.outlives_worker) == ("terraform", 512, "/step/out", False)
    sent = {file.path for file in task.files}
    assert {"/step/runbook/volume/main.tf", "/step/terraform/inside.py"} <= sent


def test_an_apply_is_given_the_plan_file_and_what_was_reviewed() -> None:
    artefact = made()
    task = RUNNER.task(order(apply_step("staging"), FILES, artefact=artefact), WORD)

    told = job(task)
    assert told["action"] == "apply"
    assert told["reviewed"]["resource_changes"][0]["address"] == "volume.log"
    assert "inputs" not in told["reviewed"]
    sent = {file.path: file.content for file in task.files}
    assert sent["/step/artefact/plan.tfplan"] == b"the plan file"
    assert (task.collect, task.outlives_worker) == (None, True)


@pytest.mark.parametrize(
    ("role", "rehearse", "action"),
    [
        (Role.FORWARD, False, "apply"),
        (Role.REHEARSAL, True, "apply"),
        (Role.ROLLBACK, True, "undo"),
        (Role.ROLLBACK, False, "undo"),
        (Role.FORWARD, True, "again"),
    ],
)
def test_only_after_a_rehearsal_is_anything_planned_anew(role: Role, rehearse: bool, action: str) -> None:
    step = apply_step("staging", rehearse=rehearse, before={"size_gb": 40})
    told = job(RUNNER.task(order(step, FILES, role, artefact=made()), WORD))

    assert told["action"] == action
    assert told["variables"]["size_gb"] == "60"
    assert told["before"]["size_gb"] == ("40" if role is Role.ROLLBACK else "60")


def test_a_plan_for_another_target_is_refused() -> None:
    """What was planned on staging is not what is applied to production, however it came there."""
    with pytest.raises(BadInput, match="its plan was made for staging"):
        RUNNER.task(order(apply_step("production"), FILES, artefact=made()), WORD)


@pytest.mark.parametrize(
    "artefact",
    [
        None,
        b"no archive",
        archive.pack({"fix.sh": b"#!/bin/sh\n"}),
        archive.pack({"made_for.json": b"{}", "plan.json": b"{}", "change.json": b"{}"}),
    ],
)
def test_what_no_plan_step_made_is_refused(artefact: bytes | None) -> None:
    with pytest.raises(BadInput):
        RUNNER.task(order(apply_step("staging"), FILES, artefact=artefact), WORD)


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({}, "left no file"),
        ({"plan.tfplan": b"x"}, "did not leave a plan"),
        ({"plan.tfplan": b"", "shown.json": b"{}"}, "did not leave a plan"),
        ({"plan.tfplan": b"x", "shown.json": b"{"}, "no plan came of it"),
        ({"plan.tfplan": b"x", "shown.json": b"[" * 100_000}, "no plan came of it"),
        ({"plan.tfplan": b"x", "shown.json": b"{}"}, "no plan as `terraform show -json`"),
        ({"plan.tfplan": b"x", "shown.json": b"{}", "more": b"x"}, "did not leave a plan"),
        (
            {"plan.tfplan": b"x", "shown.json": json.dumps(shown(after={"size": float("inf")})).encode()},
            "no plan came of it",
        ),
    ],
)
def test_what_a_vm_leaves_is_hostile_until_it_is_a_plan(files: dict[str, bytes], why: str) -> None:
    conclusion = RUNNER.conclude(PLAN, result(files=files))

    assert not conclusion.ok
    assert conclusion.artefact is None
    assert why in conclusion.reason


def test_terraforms_own_error_is_the_reason() -> None:
    step = apply_step("staging")
    failed = RUNNER.conclude(
        order(step, FILES, artefact=made()), result(code=1, stderr="x\nterraform apply: Error: stale")
    )
    lost = RUNNER.conclude(order(step, FILES, artefact=made()), result(ending=Ending.VM_LOST, code=None, reason="gone"))

    assert failed.reason == "terraform exited with code 1: terraform apply: Error: stale"
    assert (lost.ok, lost.reason) == (False, "the VM was lost: gone")


def test_the_content_of_a_plan_is_its_change_and_not_its_bytes() -> None:
    """Another plan file of the same change is the same content; another lock file, argument or change is not."""
    step, usual = apply_step("staging"), RUNNER.content(apply_step("staging"), made())
    locked = replace(PLAN, snapshot=replace(PLAN.snapshot, files=FILES | {"volume/terraform.lock.hcl": b"# other\n"}))
    edited = replace(PLAN, snapshot=replace(PLAN.snapshot, files=FILES | {"volume/more.tf": b"# more\n"}))
    larger = order(plan_step("staging", "http://staging.volumes.example:8080", size_gb=61), FILES)

    assert RUNNER.content(step, made(prior_state={"serial": 7})) == usual
    for bent in (made(locked), made(edited), made(larger), made(terraform_version="1.12.0"), made(resource_changes=[])):
        assert RUNNER.content(step, bent) != usual


def test_a_scripts_artefact_is_all_its_bytes() -> None:
    """Whatever a script names its files, no part of them is left out of what was tested."""
    step: Any = script_order().leg.step
    one, other = made(), made(prior_state={"serial": 7}, terraform_version="1.11.5")

    assert RUNNER.content(step, one) != RUNNER.content(step, other)


def test_what_only_looks_like_a_secret_does_not_void_a_plan() -> None:
    """Providers have many attributes called so; a text there that Terraform does not hide is another matter."""
    odd = 'a": null, "b": 1 \\'
    row = shown(before=None, after={"password": None, "rotate_secret_key": True, "api_key": 1, "note": odd})
    redact = Redactor()
    kept = archive.unpack(made(**row))
    for name in ("plan.json", "change.json", "made_for.json"):
        assert redact(kept[name].decode()) == kept[name].decode()
    assert json.loads(kept["plan.json"])["resource_changes"][0]["after"]["note"] == odd

    telling = archive.unpack(made(**shown(after={"password": "hunter22"})))["plan.json"].decode()
    assert redact(telling) != telling


def test_what_is_shown_is_plain_and_short() -> None:
    rows = [shown()["resource_changes"][0] | {"address": f"volume.log[{n}]\x1b[31m\u202e"} for n in range(200)]
    text = RUNNER.preview(apply_step("staging"), made(resource_changes=rows))

    assert len(text) == 2500
    assert text.startswith("0 to add, 200 to change, 0 to destroy, 0 to replace\nupdate volume.log[0][31m\n")
