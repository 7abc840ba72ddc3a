"""Rules on names and on the order of steps: L000, L009, L012, L013, L022, L023, L025."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from engine.domain import image_names
from engine.domain.gate import (
    Check,
    DiffCheck,
    DigestCheck,
    ExprCheck,
    PatternCheck,
    PolicyCheck,
    SchemaCheck,
    SqlCheck,
)
from engine.domain.runbook import CloseStep, ReceiveStep, Tool
from engine.runbooks.book import Book, Finding, target_of
from engine.runbooks.positions import Place
from engine.runbooks.rule import Example, edit, rule


@rule(
    "L000",
    bad=edit("healthy", "id: answers", "id: active"),
    good=edit("healthy", "id: answers", "id: answers-thrice"),
)
def names_are_unique(book: Book) -> Iterator[Finding]:
    """Two steps, two checks of one gate or two artefacts of one name: nobody could tell which one is meant."""
    yield from _repeated([(("steps", at, "id"), step.id) for at, step in enumerate(book.runbook.steps)], "step")
    for names in book.names_of_checks():
        yield from _repeated(names, "check")
    made = [(("steps", at, "produces"), step.produces.name) for at, step in book.scripts() if step.produces]
    yield from _repeated([(place, name) for place, name in made], "artefact")


def _repeated(named: list[tuple[Place, str]], kind: str) -> Iterator[Finding]:
    times = Counter(name for _, name in named)
    seen = set()
    for place, name in named:
        if times[name] > 1 and name in seen:
            yield Finding(place, f"a second {kind} is called {name}", "give it another name")
        seen.add(name)


@rule(
    "L009",
    bad=edit(
        "healthy", "- {id: active, type: command, target: production", "- {id: active, type: command, target: prod"
    ),
    good=edit(
        "healthy", "- {id: active, type: command, target: production", "- {id: active, type: command, target: staging"
    ),
)
def targets_are_known(book: Book) -> Iterator[Finding]:
    """A step or a check names a target that stands under `targets`."""
    mend = f"use one of {', '.join(book.runbook.targets)}"
    for at, step in book.scripts():
        if step.target and step.target not in book.runbook.targets:
            yield Finding(("steps", at, "target"), f"there is no target {step.target}", mend)
    for place, _, check in book.checks():
        target = target_of(check)
        if target and target not in book.runbook.targets:
            yield Finding((*place, "target"), f"there is no target {target}", mend)
        elif isinstance(check, SqlCheck) and book.runbook.targets[check.target].database is None:
            what = f"the verifier of {target} enters no database"
            yield Finding((*place, "target"), what, f"add `database:` to the verifier of {target}")


@rule(
    "L012",
    bad=edit("close", "  - {id: close, kind: close}\n", ""),
    good=edit("close", "id: close", "id: tell-and-close"),
)
def begins_and_ends(book: Book) -> Iterator[Finding]:
    """A run begins by receiving and ends by closing, so that people are told; neither happens in between."""
    steps = book.runbook.steps
    if not isinstance(steps[0], ReceiveStep):
        yield Finding(("steps", 0), "the first step is not receive", "begin with {id: receive, kind: receive}")
    if not isinstance(steps[-1], CloseStep):
        yield Finding(("steps", len(steps) - 1), "the last step is not close", "end with {id: close, kind: close}")
    for at, step in enumerate(steps):
        if (isinstance(step, ReceiveStep) and at > 0) or (isinstance(step, CloseStep) and at < len(steps) - 1):
            yield Finding(("steps", at), f"step {step.id} is in the middle of the line", "remove it")


@rule(
    "L013",
    bad=edit("confirmed", "of: diagnose\n", "of: fix\n"),
    good=edit(
        "healthy",
        "- {id: answers",
        "- {id: same, type: digest, of: production, equals: staging}\n      - {id: answers",
    ),
)
def references_lead_back(book: Book) -> Iterator[Finding]:
    """What a step, gate or check refers to exists and comes before it (a digest may also name the step next)."""
    for at, step in book.scripts():
        source = book.script(step.uses, before=at) if step.uses else None
        if step.uses and (source is None or source.produces is None):
            yield Finding(
                ("steps", at, "uses"),
                f"no step {step.uses} before {step.id} produces an artefact",
                "name an earlier step that has `produces`",
            )
    for at, gate in book.gates():
        if book.script(gate.of, before=at) is None:
            yield Finding(
                ("steps", at, "of"), f"there is no script step {gate.of} before {gate.id}", "name the step it judges"
            )
    for place, at, check in book.checks():
        for key, step_id, needs in _sources(check):
            source = book.script(step_id, before=at)
            if source is None or getattr(source, needs) is None:
                what = f"no step {step_id} before it has {'an output' if needs == 'output' else 'an artefact'}"
                yield Finding((*place, key), what, f"name an earlier step with `{needs}`")
        if isinstance(check, DigestCheck):
            yield from _digest_steps(book, place, at, check)


def _sources(check: Check) -> Iterator[tuple[str, str, str]]:
    """What a check over something that a step made refers to: by which key, which step, and what of it."""
    match check:
        case ExprCheck() | SchemaCheck() | PatternCheck():
            yield "of", check.of, "output"
        case PolicyCheck():
            yield "of", check.of, "output" if check.file is None else "produces"
        case DiffCheck():
            yield "of", check.of, "produces"
            if check.against is not None:
                yield "against", check.against, "produces"


def _digest_steps(book: Book, place: Place, at: int, check: DigestCheck) -> Iterator[Finding]:
    if book.script(check.of) is None:
        yield Finding((*place, "of"), f"there is no script step {check.of}", "name the step that will apply it")
    if book.script(check.equals, before=at) is None:
        yield Finding(
            (*place, "equals"), f"there is no script step {check.equals} before it", "name the step that was tested"
        )
    if check.of == check.equals:
        yield Finding(place, f"{check.of} is compared with itself", "compare what will be applied with what was tested")


@rule(
    "L022",
    bad=edit("fix", "script: fix.sh", "script: make-fix.sh"),
    good=Example(edit("fix", "script: fix.sh", "script: make-fix.sh").edits, files={"make-fix.sh": b"#!/bin/sh\n"}),
)
def scripts_exist(book: Book) -> Iterator[Finding]:
    """Every script lies in the runbook's folder, so that the snapshot and its digest cover it."""
    folder = f"the folder {book.runbook.name}/"
    for at, step in book.scripts():
        if step.script.file not in book.files:
            key = {Tool.ANSIBLE: "playbook", Tool.AGENT: "prompt"}.get(step.tool, "script")
            yield Finding(("steps", at, key), f"{step.script.file} is not in {folder}", "add the file")
        if step.rollback and step.rollback.script.file not in book.files:
            place: Place = ("steps", at, "rollback")
            yield Finding(place, f"{step.rollback.script.file} is not in {folder}", "add the file")


_SPARE = """\
  spare:
    host: staging.example
    verifier: {user: verifier, secret: {name: ssh, engine: kv, path: kv/data/example/spare, fields: [private_key]}}
  production:
"""


@rule(
    "L023",
    bad=edit("", "  production:\n", _SPARE),
    good=edit("", "  production:\n", _SPARE.replace("staging.example", "spare.example")),
)
def targets_are_different_hosts(book: Book) -> Iterator[Finding]:
    """No two targets are one host: an unprotected name for a protected host would be a way around everything."""
    first: dict[str, str] = {}
    for name, target in book.runbook.targets.items():
        other = first.setdefault(target.host, name)
        if other != name:
            yield Finding(
                ("targets", name, "host"), f"{name} is the same host as {other}", "give every target a host of its own"
            )


@rule(
    "L025",
    bad=edit("fix", "access: none", "access: none\n    image: step-ansibel"),
    good=edit("fix", "access: none", "access: none\n    image: step-ansible"),
)
def images_are_known(book: Book) -> Iterator[Finding]:
    """A step boots an image that can be built, or that was imported: a slip of the pen is found here, not when
    the step should start."""
    if book.images is None:
        return
    known = sorted({*image_names.built_here(), *book.images})
    for at, step in book.scripts():
        if step.image not in book.images and image_names.variants_of(step.image) is None:
            mend = f"use one of {', '.join(known)}, or bring it: signalbox image import {step.image} ROOTFS.tar"
            yield Finding(("steps", at, "image"), f"there is no image {step.image}", mend)
