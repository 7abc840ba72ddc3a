"""Steps of Terraform in a runbook: how they are written, what becomes of them, and what people are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.domain.errors import BadInput
from engine.domain.runbook import Access, ScriptStep, Tool
from engine.runbooks import Shelf, permissions, picture, skeleton
from engine.runbooks.comparison import State, compare

TEXT, FILES = skeleton.TERRAFORM.text, dict(skeleton.TERRAFORM.files)


def _read(text: str = TEXT, files: dict[str, bytes] | None = None) -> dict[str, ScriptStep]:
    runbook = Shelf(Path("/nonexistent")).restore(text, FILES if files is None else files).runbook
    return {step.id: step for step in runbook.steps if isinstance(step, ScriptStep)}


def _refusal(text: str = TEXT, files: dict[str, bytes] | None = None) -> str:
    with pytest.raises(BadInput) as refusal:
        _read(text, files)
    return str(refusal.value)


def test_a_plan_looks_and_may_be_made_again() -> None:
    plan = _read()["plan-production"]

    assert (plan.tool, plan.access, plan.idempotent) == (Tool.TERRAFORM, Access.READ, True)
    assert plan.script.file == "volume/main.tf"
    assert plan.script.args == (
        "plan",
        "-var=endpoint=http://{{ target.host }}:8080",
        "-var=size_gb={{ inputs.size_gb }}",
        "-backend-config=address=http://{{ target.host }}:8080/state",
    )
    assert plan.produces is not None
    assert plan.output is not None


def test_an_apply_changes_and_is_never_made_again_by_itself() -> None:
    apply = _read()["production"]

    assert (apply.tool, apply.access, apply.idempotent) == (Tool.TERRAFORM, Access.WRITE, False)
    assert (apply.script.file, apply.script.args) == ("volume/main.tf", ("apply", "plan.tfplan"))
    assert apply.rollback is not None
    assert apply.rollback.script.args == ("apply", "-var=size_gb={{ inputs.was_gb }}")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("    kind: terraform-plan\n", "    kind: terraform-plan\n    access: write\n", "unknown key steps[1].access"),
        ("    uses: plan-staging\n", "    uses: plan-stagin\n", "[L050]"),
        ("    target: production\n    approve", "    target: staging\n    approve", "[L050]"),
        ("env: {VOLUMES_TOKEN: word}", "env: {volumes_token: word}", "capitals"),
        ("    uses: plan-production\n", "    uses: plan-staging\n", "apply one plan"),
        ("staging/operator", "staging/reader", "[L005]"),
        ("      - {id: same, type: digest, of: production, equals: staging}\n", "", "[L002]"),
        ("    rehearse: true\n", "", "[L004]"),
        ("    approve: {expires: 30m}\n", "", "[L019]"),
        ('size_gb: "{{ inputs.size_gb }}"}', 'size_gb: "{{ inputs.size_bg }}"}', "[L014]"),
        ("port: 8080}]", "port: 8081}]", "[L017]"),
    ],
)
def test_what_is_not_safe_is_refused(old: str, new: str, why: str) -> None:
    assert why in _refusal(TEXT.replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("more.tf", 'resource "x" "y" {\n  provisioner "local-exec" {}\n}\n', "provisioner"),
        ("more.tf", "resource x y {\n  provisioner local-exec {}\n}\n", "provisioner"),
        ("more.tf", 'locals {\n  u = "http://x"\n}\ndata "external" "y" {}\n', "program"),
        ("more.tf", 'module "m" {\n  source = "git::https://elsewhere.example/m"\n}\n', "module"),
        ("more.tf", 'module "m" {\n  source = "a/b/c"\n}\nmodule "n" {\n  source = "./n"\n}\n', "module"),
        ("more.tf.json", "{}", "JSON"),
        ("main.tf", 'terraform {\n  backend "local" {}\n}\n', "state in the VM"),
        ("main.tf", "# backend http {}\n", "state in the VM"),
    ],
)
def test_what_a_plan_would_not_show_is_refused(file: str, text: str, why: str) -> None:
    refusal = _refusal(TEXT, FILES | {f"volume/{file}": text.encode()})

    assert why in refusal
    assert "[L053]" in refusal


@pytest.mark.parametrize(
    "text",
    [
        '# no provisioner "x" here\n',
        'variable "x" {\n  description = "what a provisioner \\"does\\""\n}\n',
        'module "m" {\n  source = "./m"\n}\n',
        'terraform {\n  required_providers {\n    x = { source = "hashicorp/x" }\n  }\n}\n',
    ],
)
def test_what_only_looks_like_it_is_not(text: str) -> None:
    assert _read(TEXT, FILES | {"volume/more.tf": text.encode()})


def test_people_are_told_that_it_is_terraform() -> None:
    runbook = Shelf(Path("/nonexistent")).restore(TEXT, FILES).runbook

    assert "changes production with terraform: volume/main.tf" in picture.graph(runbook)
    shown = picture.show(runbook, {})
    assert "terraform volume/main.tf apply plan.tfplan; with VOLUMES_TOKEN from the secret word" in shown
    assert "is undone by volume/main.tf apply -var=size_gb={{ inputs.was_gb }}" in shown
    rows = {(row.who, str(row.does), row.what) for row in permissions.of(runbook)}
    assert ("plan-production", "reads", "production.example:8080") in rows
    assert ("production", "changes after a yes", "kv/data/example/production/operator [token]") in rows


def test_what_was_made_wider_is_seen() -> None:
    text = TEXT.replace("example/production/reader, fields: [token]", "example/production/other, fields: [token]")
    differences = [str(one) for one in compare(State("a", TEXT, FILES), State("b", text, FILES))]

    assert any("example/production/other" in one and "wider" in one for one in differences)
