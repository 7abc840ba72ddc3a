"""The inbox: authenticated bodies, kept before anything is done with them."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from engine.domain.alert import Delivery
from engine.store.models import Inbox


def keep(session: Session, delivery: Delivery, now: datetime) -> bool:
    """Keep a body; False when this delivery is there already (see `Delivery` for what counts as a repeat)."""
    same = sa.select(Inbox.id, Inbox.key).where(Inbox.source == delivery.source)
    if delivery.group is None:
        same = same.where(Inbox.key == delivery.key)
    else:
        same = same.where(Inbox.group == delivery.group)
    last = session.execute(same.order_by(Inbox.id.desc()).limit(1)).first()
    if last is not None and last.key == delivery.key:
        return False
    row = Inbox(
        source=delivery.source,
        key=delivery.key,
        group=delivery.group,
        after=last.id if last is not None else 0,
        body=delivery.body,
        received_at=now,
    )
    session.add(row)
    session.flush()
    return True


def oldest_pending(session: Session) -> Inbox | None:
    """The next body to work on, in order of arrival. None also when it was done meanwhile; there may be more.

    Whoever comes second waits for the first: a resolve that overtook its firing would have nothing to end.
    """
    query = sa.select(Inbox).where(Inbox.state == "pending").order_by(Inbox.id).limit(1)
    return session.scalar(query.with_for_update())


def pending(session: Session, row_id: int) -> Inbox | None:
    """This body, if nobody has worked it off meanwhile."""
    return session.scalar(sa.select(Inbox).where(Inbox.id == row_id, Inbox.state == "pending").with_for_update())


def done(row: Inbox) -> None:
    """The body's alerts are in the database."""
    row.state = "done"


def reject(row: Inbox, reason: str) -> None:
    """The body was authenticated and makes no sense; it stays, with its reason."""
    row.state, row.reason = "rejected", reason[:2000]


def rejected(session: Session) -> int:
    """How many bodies wait for a person to look at them."""
    return session.scalar(sa.select(sa.func.count()).where(Inbox.state == "rejected")) or 0
