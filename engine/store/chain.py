"""Appending to the chains of events. Whoever appends first locks the incident's head until its transaction ends.

Events are collected and written together when the transaction ends (`engine.store.session`), so that a boundary of a
run costs one statement for all of them, and one for the head.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.domain.chain import EMPTY, Head, Link
from engine.domain.states import Move
from engine.store import models

HEADS, EVENTS = "heads", "events"
MAX_TEXT = 2000

_EVENT: Any = models.Event.__table__
_INCIDENT: Any = models.Incident.__table__
_INSERT = sa.insert(_EVENT).inline()
_SET_HEAD = (
    sa.update(_INCIDENT)
    .where(_INCIDENT.c.number == sa.bindparam("incident"))
    .values(head_seq=sa.bindparam("seq"), head_hash=sa.bindparam("hash"))
)


def head_of(seq: int, link_hash: str) -> Head:
    """The head as an incident keeps it."""
    return Head(seq, link_hash) if seq else EMPTY


def know_head(session: Session, number: int, head: Head) -> None:
    """The head of this incident was read with its row locked."""
    session.info.setdefault(HEADS, {}).setdefault(number, head)


def _head(session: Session, number: int) -> Head:
    heads: dict[int, Head] = session.info.setdefault(HEADS, {})
    if number not in heads:
        table = models.Incident
        session.flush()  # the incident itself may be new
        query = sa.select(table.head_seq, table.head_hash).where(table.number == number).with_for_update(key_share=True)
        heads[number] = head_of(*session.execute(query).one())
    return heads[number]


def append(
    session: Session,
    *,
    number: int,
    run_id: str | None,
    at: datetime,
    kind: str,
    actor: str,
    text: str,
    detail: Mapping[str, Any] | None = None,
    move: Move | None = None,
) -> int:
    """One more row of history; returns its place in the chain. `move` makes the database check its legality."""
    before = _head(session, number)
    link = Link(
        incident=number,
        seq=before.seq + 1,
        run_id=run_id,
        at=at,
        kind=kind,
        actor=actor,
        text=text.replace("\x00", "\ufffd")[:MAX_TEXT],
        detail=dict(detail or {}),
        move=(move.source.value, move.target.value) if move else None,
    )
    head = Head(link.seq, link.hash(before.hash))
    session.info[HEADS][number] = head
    session.info.setdefault(EVENTS, []).append(_row(link, head.hash))
    return link.seq


def _row(link: Link, link_hash: str) -> dict[str, Any]:
    source, target = link.move or (None, None)
    return {
        "incident_number": link.incident,
        "seq": link.seq,
        "hash": link_hash,
        "run_id": link.run_id,
        "at": link.at,
        "kind": link.kind,
        "actor": link.actor,
        "move_source": source,
        "move_target": target,
        "text": link.text,
        "detail": link.detail,
    }


def write(session: Session) -> None:
    """Write what was appended. Called at the end of every transaction, and before history is read within one."""
    rows: list[dict[str, Any]] = session.info.pop(EVENTS, [])
    if not rows:
        return
    session.flush()
    connection = session.connection()
    connection.execute(_INSERT, rows)
    heads: dict[int, Head] = session.info[HEADS]
    touched = sorted({row["incident_number"] for row in rows})
    values = [{"incident": number, "seq": heads[number].seq, "hash": heads[number].hash} for number in touched]
    connection.execute(_SET_HEAD, values)


def heads(session: Session) -> dict[int, Head]:
    """The head of every incident's chain, by number.

    All of them, not the newest: a chain that was cut short long after its incident ended shows here only.
    """
    table = models.Incident
    rows = session.execute(sa.select(table.number, table.head_seq, table.head_hash).where(table.head_seq > 0))
    return {number: Head(seq, link_hash) for number, seq, link_hash in rows}


def link_of(row: models.Event) -> Link:
    """A stored event as the chain sees it."""
    move = (row.move_source, row.move_target)
    return Link(
        incident=row.incident_number,
        seq=row.seq,
        run_id=row.run_id,
        at=row.at,
        kind=row.kind,
        actor=row.actor,
        text=row.text,
        detail=row.detail,
        move=(move[0], move[1]) if move[0] is not None and move[1] is not None else None,
    )
