"""What all tables share: names of constraints, column types."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped

from engine.store.types import PlainText, UtcDateTime

Moment = Mapped[datetime]
MaybeMoment = Mapped[datetime | None]


class Base(DeclarativeBase):
    """All tables; every constraint has a name, so that migrations can speak of it."""

    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar = {
        datetime: UtcDateTime,
        dict[str, Any]: sa.JSON,
        list[Any]: sa.JSON,
        str: PlainText,
    }


def only_one(name: str, columns: str, where: str) -> sa.Index:
    """At most one row for these columns among those that meet `where`, on both dialects."""
    clause = sa.text(where)
    return sa.Index(name, *columns.split(), unique=True, sqlite_where=clause, postgresql_where=clause)
