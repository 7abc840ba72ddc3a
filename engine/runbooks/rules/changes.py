"""Rules on changes, the heart of the promise: L001, L002, L003, L004, L019, L020, L021, L024."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from engine.domain import template
from engine.domain.gate import INDEPENDENT, OFF_HOST, DigestCheck, PromqlCheck
from engine.domain.journey import Leg
from engine.domain.runbook import PER_TARGET, Access, ScriptStep
from engine.domain.within import guaranteed
from engine.runbooks import paths
from engine.runbooks.book import Book, Finding, target_of
from engine.runbooks.format import CHANGING
from engine.runbooks.rule import edit, edits, rule

_A_LOOK_BETWEEN = "  - {id: note, kind: script, script: fix.sh, access: none, timeout: 1m, idempotent: true}\n\n"
_FROM_OFF_THE_HOST = "type: http, target: production, path: /healthz, expect: status == 200"
_RATE = """\
- {id: rate, type: promql, target: staging, query: 'errors{env="staging"}', expect: 'result[0] < 0.1'}
      - {id: same,"""


@rule(
    "L001",
    bad=edit("healthy", "of: production", "of: diagnose"),
    good=edit("tested", "  - id: tested", f"{_A_LOOK_BETWEEN}  - id: tested"),
)
def gate_after_every_change(book: Book) -> Iterator[Finding]:
    """On every path, after a change comes a gate `of` it, before anything else is changed and before the end. A
    rehearsal is judged together with its undoing, by the checks of its rollback."""
    for change in _steps(book, paths.unjudged):
        yield Finding(
            ("steps", book.place(change.id)),
            f"{change.id} changes {change.target} and no gate judges it",
            f"add a gate with `of: {change.id}` right after it",
        )


@rule(
    "L020",
    bad=edit(
        "confirmed",
        """\
  - id: confirmed
    kind: gate
    of: diagnose
    checks:
      - {id: cause, type: expr, of: diagnose, unless: out.cause == "unknown", expect: out.cause == "stuck"}
      - {id: ill, type: http, target: production, path: /healthz, expect: status != 200}
""",
        "",
    ),
    good=edit(
        "confirmed",
        '- {id: cause, type: expr, of: diagnose, unless: out.cause == "unknown", expect: out.cause == "stuck"}\n      ',
        "",
    ),
)
def gate_before_every_change(book: Book) -> Iterator[Finding]:
    """On every path, before a change stands a gate, and between two changes stands one: only a held gate leads to a
    change. A rollback needs none before it: a person's decision leads to it, and it was rehearsed."""
    for change in _steps(book, paths.unguarded):
        what = f"{change.id} changes {change.target} and no gate stands before it"
        yield Finding(("steps", book.place(change.id)), what, "add a gate")


def _steps(book: Book, found: Callable[[paths.Path], Iterator[Leg]]) -> Iterator[ScriptStep]:
    """The steps of which something is found on some path, each once, in order."""
    ids = {leg.step.id for path in paths.every(book.journey()) for leg in found(path)}
    return (step for _, step in book.changes() if step.id in ids)


@rule(
    "L024",
    bad=edit("tested", "fresh_for: 30m", "fresh_for: 5m"),
    good=edits(("tested", "fresh_for: 30m", "fresh_for: 5m"), ("production", "expires: 30m", "expires: 5m")),
)
def gates_outlast_the_question(book: Book) -> Iterator[Finding]:
    """The verdict of the gate before an approved change is good for as long as its approval may take: a yes to
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


@rule(
    "L002",
    bad=edit("tested", "      - {id: same, type: digest, of: production, equals: staging}\n", ""),
    good=edit("tested", "id: same,", "id: same-bytes,"),
)
def tested_before_protected(book: Book) -> Iterator[Finding]:
    """Only what was applied to an unprotected target goes to a protected one: the same artefact by the same
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
    same = (step.script, step.image) == (change.script, change.image)
    return same and _same_artefact(step, change, book) and not book.protected(step)


def _same_artefact(step: ScriptStep, change: ScriptStep, book: Book) -> bool:
    """One artefact for both; or, where it is made for one target, two that the same was done for."""
    if change.tool not in PER_TARGET:
        return step.uses == change.uses
    plans = [book.script(one.uses) if one.uses else None for one in (step, change)]
    made = {(plan.script, plan.image) for plan in plans if plan is not None}
    return None not in plans and len(made) == 1


def _compared(book: Book, at: int, change: ScriptStep, tested: list[ScriptStep]) -> bool:
    gate = book.gate_before(at)
    return gate is not None and any(
        isinstance(check, DigestCheck) and check.of == change.id and check.equals in {step.id for step in tested}
        for check in gate[1].checks
    )


@rule(
    "L003",
    bad=edit(
        "healthy",
        _FROM_OFF_THE_HOST,
        "type: command, target: production, run: [curl, -sf, localhost/healthz], expect: code == 0",
    ),
    good=edit(
        "healthy",
        _FROM_OFF_THE_HOST,
        "type: promql, target: production, query: 'up{env=\"production\"}', expect: 'result[0] == 1.0'",
    ),
)
def gates_are_independent(book: Book) -> Iterator[Finding]:
    """No step certifies itself. A gate has a check that is measured by something else than the step; after a
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


@rule(
    "L004",
    bad=edit("staging", "    rehearse: true\n", ""),
    good=edits(
        (
            "staging",
            """\
    rehearse: true
    rollback:
      script: rollback.sh
      checks:
        - {id: answers, type: http, target: staging, path: /healthz, expect: status == 200}
""",
            "    rollback: {none: a restart has nothing to undo}\n",
        ),
        (
            "production",
            """\
    rollback:
      script: rollback.sh
      checks:
        - {id: answers, type: http, target: production, path: /healthz, expect: status == 200}
""",
            "    rollback: {none: a restart has nothing to undo}\n",
        ),
    ),
)
def ways_back(book: Book) -> Iterator[Finding]:
    """A change says how it is undone, or why there is no way back. What may undo a protected target was rehearsed
    on an unprotected one, after the same change; a rehearsal never happens on a protected one."""
    for at, step in book.scripts():
        if step.access is not Access.WRITE:
            if step.rollback or step.rehearse:
                yield Finding(("steps", at), f"{step.id} changes nothing", "remove `rollback` and `rehearse`")
            continue
        edge = book.file.steps[at]
        if isinstance(edge, CHANGING) and edge.rollback is None:
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
        and _same_content(other, step, book)
        and other.rollback is not None
        and step.rollback is not None
        and other.rollback.script == step.rollback.script
        for place, other in book.changes()
        if place < at
    )


@rule(
    "L019",
    bad=edit("production", "    approve: {expires: 30m}\n", ""),
    good=edit("production", "approve: {expires: 30m}", 'unapproved: "the same restart is done by cron every hour"'),
)
def protected_changes_are_approved(book: Book) -> Iterator[Finding]:
    """A change of a protected target waits for a person's yes, or a written reason says why it need not."""
    for at, step in book.scripts():
        edge = book.file.steps[at]
        reason = edge.unapproved if isinstance(edge, CHANGING) else None
        must = step.access is Access.WRITE and book.protected(step)
        if must and step.approval is None and reason is None:
            mend = 'add `approve: {expires: 30m}` or `unapproved: "the reason"`'
            yield Finding(("steps", at), f"{step.id} changes a protected target and nobody approves it", mend)
        if reason is not None and (step.approval is not None or not must):
            yield Finding(("steps", at, "unapproved"), f"`unapproved` means nothing on {step.id}", "remove it")


@rule(
    "L021",
    bad=edit("tested", "- {id: same,", _RATE.replace('"staging"', '"production"')),
    good=edit("tested", "- {id: same,", _RATE),
)
def queries_name_their_target(book: Book) -> Iterator[Finding]:
    """A query says which target it measures, in quotes: a copied gate must not watch the other environment."""
    for place, _, check in book.checks():
        if not isinstance(check, PromqlCheck):
            continue
        names = {name: {name, target.host} for name, target in book.runbook.targets.items()}
        own = names.get(check.target, {check.target}) | {"{{ target.host }}"}
        query = template.PLACEHOLDER.sub(r"{{ \1.\2 }}", check.query)
        if not any(_selected(word, query) for word in own):
            mend = f'add a label such as {{env="{check.target}"}} to the query'
            yield Finding((*place, "query"), f"the query does not say that it is about {check.target}", mend)
        for other in sorted(names.keys() - {check.target}):
            if any(_selected(word, query) for word in names[other]):
                what = f"the query measures {other}, the check is of {check.target}"
                yield Finding((*place, "query"), what, f"leave only what {check.target} says of itself")


def _selected(word: str, query: str) -> bool:
    """Whether a matcher wants just this value (a port, a unit may follow): not `!=`, not one of several."""
    return re.search(rf"(?<![!<>=~])=\s*([\"'`]){re.escape(word)}(?:[:/][^|]*?)?\1", query) is not None
