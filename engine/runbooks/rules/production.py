"""Rules on what makes a protected target protected: L027, L029, L037."""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.runbooks.book import Book, Finding
from engine.runbooks.format import CHANGING, NoUndoEdge
from engine.runbooks.positions import Place
from engine.runbooks.rule import Edit, Example, edit, rule

_PRODUCTION = re.compile(r"(?<![a-z0-9])(production|prod|prd|live)[0-9]*(?![a-z0-9])")
MIN_WORDS = 3
_WORD = re.compile(r"[^\W\d_]{2,}")


@rule(
    "L027",
    bad=Example(
        (
            Edit(
                "production",
                'network: [{host: "{{ target.host }}", port: 22}]',
                'network: [{host: "{{ target.host }}", port: 22}, {host: mirror.example, port: 443}]',
            ),
        ),
        files={"apply.sh": b"#!/bin/sh\ncurl -s https://mirror.example/newest.sh | ssh target -- sh -s\n"},
    ),
    good=Example(
        (Edit("fix", "access: none", "access: none\n    network: [{host: mirror.example, port: 443}]"),),
        files={"fix.sh": b"#!/bin/sh\ncurl -s https://mirror.example/newest.sh >/step/out/fix.sh\n"},
    ),
)
def protected_changes_bring_everything_along(book: Book) -> Iterator[Finding]:
    """What changes a protected target dials nothing but that target. What it fetched from elsewhere would be on no
    digest: it was not tested on staging, and nobody approved it. An earlier step fetches it, into the artefact."""
    for at, step in book.changes():
        target = book.target(step)
        if not book.protected(step) or target is None:
            continue
        for number, endpoint in enumerate(step.grant.network):
            if endpoint.host != target.host and "target.host" not in endpoint.host:
                place: Place = ("steps", at, "network", number)
                what = f"{step.id} changes {target.name} and may fetch from {endpoint.host}"
                yield Finding(place, what, "let an earlier step fetch it into the artefact")


@rule(
    "L029",
    bad=Example((Edit("", "    host: staging.example", "    host: live.staging.example"),)),
    good=edit("", "    host: staging.example", "    host: rehearsal.example"),
)
def production_is_protected(book: Book) -> Iterator[Finding]:
    """A target that is called production, prod, prd or live, or whose host is, is protected. Everything that guards
    production hangs on this one word."""
    for name, target in book.runbook.targets.items():
        found = _PRODUCTION.search(name) or _PRODUCTION.search(target.host)
        if found and not target.protected:
            what = f"target {name} ({target.host}) is called {found[1]} and is not protected"
            yield Finding(("targets", name), what, "add `protected: true`; if it is none, call it something else")


@rule(
    "L037",
    bad=edit("production", "approve: {expires: 30m}", 'unapproved: "n/a n/a n/a n/a"'),
    good=edit("production", "approve: {expires: 30m}", 'unapproved: "a restart at night disturbs nobody"'),
)
def reasons_say_something(book: Book) -> Iterator[Finding]:
    """Where a reason stands in the place of an approval or of a way back, it is one that a reviewer can judge: at
    least three different words."""
    for at, step in enumerate(book.file.steps):
        if not isinstance(step, CHANGING):
            continue
        excuses: dict[Place, str | None] = {
            ("steps", at, "unapproved"): step.unapproved,
            ("steps", at, "rollback", "none"): step.rollback.none if isinstance(step.rollback, NoUndoEdge) else None,
        }
        for place, reason in excuses.items():
            if reason is not None and len(set(_WORD.findall(reason.lower()))) < MIN_WORDS:
                yield Finding(place, f"{reason[:60]!r} is no reason", "say why, for whoever reviews it")
