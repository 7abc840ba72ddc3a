"""Who drives runs."""

from __future__ import annotations

from sqlalchemy.orm import Mapped, mapped_column

from engine.store.models.base import Base, MaybeMoment, Moment


class Worker(Base):
    """One process that drives runs, from its start (or from its return after it was thought dead) to its end.

    Its claims hold until `alive_until`, by the database's clock. `host`: who can destroy its VMs. `process`: the mark
    of its VMs. `ended_at`: it left, or was declared dead; such a row never lives again.
    """

    __tablename__ = "worker"

    id: Mapped[str] = mapped_column(primary_key=True)
    process: Mapped[str]
    host: Mapped[str]
    pool: Mapped[str]
    concurrency: Mapped[int]
    started_at: Moment
    alive_until: Moment
    ended_at: MaybeMoment
