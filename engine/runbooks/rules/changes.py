"""Rules on changes, the heart of the promise: L001, L002, L003, L004, L019, L020, L021, L024."""

from __future__ import annotations

from collections.abc import Iterator

from engine.domain.gate import INDEPENDENT, OFF_HOST, DigestCheck, PromqlCheck
from engine.domain.runbook import Access, GateStep, ScriptStep
from engine.domain.within import guaranteed
from engine.runbooks.book import Book, Finding, target_of
from engine.runbooks.format import ScriptEdge


def gate_after_every_change(book: Book) -> Iterator[Finding]:
    """L001. After a change comes a gate `of` it, before anything else is changed and before the end."""
    steps = book.runbook.steps
    for at, change in book.changes():
        judged = False
        for step in steps[at + 1 :]:
            if isinstance(step, ScriptStep) and step.access is Access.WRITE:
                break
            judged = judged or (isinstance(step, GateStep) and step.of == change.id)
        if not judged:
            yield Finding(
                ("steps", at),
                f"{change.id} changes {change.target} and no gate judges it",
                f"add a gate with `of: {change.id}` right after it",
            )


def gate_before_every_change(book: Book) -> Iterator[Finding]:
    """L020. Before a change stands a gate, and between two changes stands one: only a held gate leads to a change."""
    previous = -1
    for at, change in book.changes():
        gate = book.gate_before(at)
        if gate is None or gate[0] < previous:
            yield Finding(
                ("steps", at), f"{change.id} changes {change.target} and no gate stands before it", "add a gate"
            )
        previous = at


def gates_outlast_the_question(book: Book) -> Iterator[Finding]:
    """L024. The verdict of the gate before an approved change is good for as long as its approval may take: a yes to
    evidence that is measured again meanwhile is void, and the person was asked for nothing."""
    for at, change in book.changes():
        gate = book.gate_before(at)
        if change.approval is None or gate is None or gate[1].fresh_for_s >= change.approval.expires_s:
            continue
        minutes = -(-change.approval.expires_s // 60)
        yield Finding(
            ("steps", gate[0]),
            f"{gate[1].id} is good for {gate[1].fresh_for_s} s, the approval of {change.id} may take longer",
            f"write `fresh_for: {minutes}m` (or more), or a shorter `approve.expires`",
        )


def tested_before_protected(book: Book) -> Iterator[Finding]:
    """L002. Only what was applied to an unprotected target goes to a protected one: the same artefact by the same
    script and image; and the gate before it compares the two content digests, planned against tested."""
    for at, change in book.changes():
        if not book.protected(change):
            continue
        tested = [step for place, step in book.changes() if place < at and _same_content(step, change, book)]
        if change.uses is None:
            mend = "let an earlier step produce what is applied, and name it in `uses`"
            yield Finding(("steps", at), f"{change.id} changes a protected target without `uses`", mend)
        elif not tested:
            yield Finding(
                ("steps", at),
                f"{change.id} changes a protected target with what no unprotected target had before",
                "add a step before it with the same script, arguments, image and `uses` on an unprotected target",
            )
        elif not _compared(book, at, change, tested):
            mend = f"add {{id: same, type: digest, of: {change.id}, equals: {tested[-1].id}}} to the gate before it"
            yield Finding(("steps", at), f"no digest check stands before {change.id}", mend)


def _same_content(step: ScriptStep, change: ScriptStep, book: Book) -> bool:
    same = (step.uses, step.script, step.image) == (change.uses, change.script, change.image)
    return same and not book.protected(step)


def _compared(book: Book, at: int, change: ScriptStep, tested: list[ScriptStep]) -> bool:
    gate = book.gate_before(at)
    return gate is not None and any(
        isinstance(check, DigestCheck) and check.of == change.id and check.equals in {step.id for step in tested}
        for check in gate[1].checks
    )


def gates_are_independent(book: Book) -> Iterator[Finding]:
    """L003. No step certifies itself. A gate has a check that is measured by something else than the step; after a
    change one such check measures the changed target, and one is taken from off its host, for who can write a host
    can forge what runs on it. Digests and a step's own output never count: the type decides, never the author."""
    for place, _, judged, checks in book.check_lists():
        if not guaranteed(checks, lambda check: isinstance(check, INDEPENDENT)):
            mend = "add a command, http, promql, sql, log or pattern check that is not in shadow"
            yield Finding(place, f"nothing independent judges {judged}: it would certify itself", mend)
            continue
        change = book.script(judged)
        if change is None or change.access is not Access.WRITE:
            continue
        changed = change.target
        if not guaranteed(checks, lambda check: target_of(check) == changed):  # noqa: B023 - called here and now
            mend = f"add a command, http or promql check with `target: {change.target}`"
            yield Finding(place, f"no check measures {change.target}, which {judged} changes", mend)
        elif not guaranteed(checks, lambda c: isinstance(c, OFF_HOST) and target_of(c) == changed):  # noqa: B023
            mend = f"add an http, promql or sql check with `target: {change.target}`"
            yield Finding(place, f"{change.target} is judged only from within, after {judged} could write there", mend)


def ways_back(book: Book) -> Iterator[Finding]:
    """L004. A change says how it is undone, or why there is no way back. What may undo a protected target was rehearsed
    on an unprotected one; a rehearsal never happens on a protected one."""
    for at, step in book.scripts():
        if step.access is not Access.WRITE:
            if step.rollback or step.rehearse:
                yield Finding(("steps", at), f"{step.id} changes nothing", "remove `rollback` and `rehearse`")
            continue
        edge = book.file.steps[at]
        if isinstance(edge, ScriptEdge) and edge.rollback is None:
            mend = "add `rollback: {script: ..., checks: [...]}` or `rollback: {none: the reason}`"
            yield Finding(("steps", at), f"{step.id} says no way back", mend)
        if step.rehearse and (step.rollback is None or book.protected(step)):
            why = "has no rollback" if step.rollback is None else "works on a protected target"
            yield Finding(("steps", at, "rehearse"), f"{step.id} cannot be rehearsed: it {why}", "remove `rehearse`")
        if step.rollback and book.protected(step) and not _rehearsed(book, at, step):
            mend = "give the step that tests it the same rollback script and arguments, and `rehearse: true`"
            yield Finding(("steps", at, "rollback"), f"the rollback of {step.id} was never rehearsed", mend)


def _rehearsed(book: Book, at: int, step: ScriptStep) -> bool:
    return any(
        other.rehearse
        and not book.protected(other)
        and other.rollback is not None
        and step.rollback is not None
        and (other.rollback.script, other.uses) == (step.rollback.script, step.uses)
        for place, other in book.changes()
        if place < at
    )


def protected_changes_are_approved(book: Book) -> Iterator[Finding]:
    """L019. A change of a protected target waits for a person's yes, or a written reason says why it need not."""
    for at, step in book.scripts():
        edge = book.file.steps[at]
        reason = edge.unapproved if isinstance(edge, ScriptEdge) else None
        must = step.access is Access.WRITE and book.protected(step)
        if must and step.approval is None and reason is None:
            mend = 'add `approve: {expires: 30m}` or `unapproved: "the reason"`'
            yield Finding(("steps", at), f"{step.id} changes a protected target and nobody approves it", mend)
        if reason is not None and (step.approval is not None or not must):
            yield Finding(("steps", at, "unapproved"), f"`unapproved` means nothing on {step.id}", "remove it")


def queries_name_their_target(book: Book) -> Iterator[Finding]:
    """L021. A query says which target it measures, in quotes: a copied gate must not watch the other environment."""
    for place, _, check in book.checks():
        if not isinstance(check, PromqlCheck):
            continue
        target = book.runbook.targets.get(check.target)
        words = [check.target] + ([target.host] if target else [])
        if "target.host" not in check.query and not any(_quoted(word, check.query) for word in words):
            mend = f'add a label such as {{env="{check.target}"}} to the query'
            yield Finding((*place, "query"), f"the query does not say that it is about {check.target}", mend)


def _quoted(word: str, query: str) -> bool:
    return any(f"{mark}{word}" in query for mark in "\"'`")
