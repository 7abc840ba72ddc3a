"""Rules on Terraform: L050, L051, L052, L053. Their examples are edits of a runbook of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.domain.gate import PolicyCheck
from engine.domain.runbook import Access, ScriptStep, Tool
from engine.runbooks import skeleton
from engine.runbooks.book import Book, Finding
from engine.runbooks.rule import Edit, Example, rule

LOCK = "terraform.lock.hcl"
DOCUMENT = "plan.json"
_STRING = r'"(?:\\.|[^"\\\n])*"'
_STRING_OR_COMMENT = re.compile(rf"({_STRING})|(?:#|//)[^\n]*")
""" Comments in /* */ are read like the rest: what begins one may stand in a text, and would hide what follows. """
_MODULE = re.compile(r'\bmodule\s+"?[\w-]+"?\s*\{')
_SOURCE = re.compile(r"\bsource\s*=\s*(\S*)")
_BACKEND = re.compile(r'\b(?:backend\s+"?(?!local\b)[a-z]+"?|cloud)\s*\{')


def _example(*edits: tuple[str, str, str], files: dict[str, bytes | None] | None = None) -> Example:
    return Example(tuple(Edit(*one) for one in edits), files or {}, skeleton.TERRAFORM)


def _of_terraform(book: Book, access: Access) -> Iterator[tuple[int, ScriptStep]]:
    return ((at, step) for at, step in book.scripts() if step.tool is Tool.TERRAFORM and step.access is access)


@rule(
    "L050",
    bad=_example(("plan-staging", "target: staging", "target: production")),
    good=_example(("plan-production", "timeout: 5m", "timeout: 4m")),
)
def plans_fit_what_applies_them(book: Book) -> Iterator[Finding]:
    """What is applied is the plan of an earlier step, made for the same target by the same image, and by no other step
    too: a plan is for one place and one time."""
    applied: dict[str, str] = {}
    for at, step in _of_terraform(book, Access.WRITE):
        plan = book.script(step.uses or "", before=at)
        if plan is None or plan.tool is not Tool.TERRAFORM:
            what = f"{step.id} applies the plan of {step.uses}, which is no plan step before it"
            yield Finding(("steps", at, "uses"), what, "name a step of kind terraform-plan")
            continue
        other = applied.setdefault(plan.id, step.id)
        if other != step.id:
            yield Finding(("steps", at, "uses"), f"{step.id} and {other} apply one plan", "plan for each")
        for name, ours, theirs in (("target", step.target, plan.target), ("image", step.image, plan.image)):
            if ours != theirs:
                what = f"{step.id} has the {name} {ours}, its plan was made with {theirs}"
                yield Finding(("steps", at, name), what, f"use one {name} for both")


@rule(
    "L051",
    bad=_example(("planned-production", "file: plan.json", "file: change.json")),
    good=_example(("planned-production", "id: one-change", "id: nothing-else")),
)
def plans_are_judged(book: Book) -> Iterator[Finding]:
    """Between a plan and its apply stands a gate `of` the plan that holds its `plan.json` to a policy. What the policy
    does not allow in so many words is denied."""
    for at, step in _of_terraform(book, Access.WRITE):
        gates = [gate for place, gate in book.gates() if place < at and gate.of == step.uses]
        if step.uses and not any(_judges(check, step.uses) for gate in gates for check in gate.checks):
            what = f"{step.id} applies the plan of {step.uses}, which no policy judges"
            mend = f"add {{id: policy, type: policy, of: {step.uses}, file: {DOCUMENT}, rules: [...]}} to a gate of it"
            yield Finding(("steps", at, "uses"), what, mend)


def _judges(check: object, plan: str) -> bool:
    return isinstance(check, PolicyCheck) and (check.of, check.file) == (plan, DOCUMENT)


@rule(
    "L052",
    bad=_example(files={f"volume/{LOCK}": None}),
    good=_example(files={"volume/outputs.tf": b'output "size_gb" {\n  value = var.size_gb\n}\n'}),
)
def providers_are_locked(book: Book) -> Iterator[Finding]:
    """A configuration has its lock file beside main.tf, as `terraform.lock.hcl`: which provider runs is on the digest
    of what was tested, and another one is refused."""
    for at, step in _of_terraform(book, Access.READ):
        lock = step.script.file.removesuffix("main.tf") + LOCK
        if lock not in book.files:
            what = f"{lock} is not in the folder {book.runbook.name}/"
            yield Finding(("steps", at, "config"), what, f"copy what `terraform init` writes: .{LOCK}")


@rule(
    "L053",
    bad=_example(
        files={"volume/more.tf": b'resource "x" "y" {\n  provisioner "local-exec" { command = "make room" }\n}\n'}
    ),
    good=_example(files={"volume/more.tf": b'# no provisioner "local-exec": what it does stands in no plan\n'}),
)
def plans_show_everything(book: Book) -> Iterator[Finding]:
    """What Terraform does stands in its plan, where a policy and a person see it: no provisioner, no program that is
    run while it plans, no module from elsewhere. And its state outlives the VM: no local backend."""
    for at, step in _of_terraform(book, Access.READ):
        folder = step.script.file.removesuffix("main.tf")
        texts = {name: data.decode("utf-8", "replace") for name, data in book.files.items() if name.startswith(folder)}
        for name, text in sorted(texts.items()):
            why = _hidden(name, text)
            if why:
                yield Finding(("steps", at, "config"), f"{name} {why}", "leave it out, or in another file")
        if not any(_BACKEND.search(_without_comments(text)) for text in texts.values()):
            what = f"{folder} keeps its state in the VM, which is thrown away"
            yield Finding(("steps", at, "config"), what, 'add such as `backend "http" {}`, and `backend:` to the step')


def _hidden(name: str, text: str) -> str | None:
    """What of a file no plan would show, if anything."""
    if name.endswith(".tf.json"):
        return "is JSON, in which it cannot be seen whether a plan shows everything"
    if not name.endswith(".tf"):
        return None
    text = _without_comments(text)
    if re.search(r'\bprovisioner\s+["\w]', re.sub(_STRING, '""', text)):
        return "runs a provisioner, which stands in no plan"
    if re.search(r'\bdata\s+"?external\b', text):
        return "runs a program while it plans"
    if _MODULE.search(text) and not all(word.startswith('"./') for word in _SOURCE.findall(text)):
        return "has a module and names a source that is not in the folder (`./...`), and so on no digest"
    return None


def _without_comments(text: str) -> str:
    return _STRING_OR_COMMENT.sub(lambda found: found[1] or "", text)
