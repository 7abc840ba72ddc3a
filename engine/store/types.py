"""Column types that behave the same on SQLite and on Postgres."""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """An aware UTC time; SQLite would forget the zone."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("times must be aware")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class PlainText(sa.types.TypeDecorator[str]):
    """Text of any length. Output of a VM may hold NUL, which Postgres refuses and nobody can read: it is shown as �."""

    impl = sa.Text()
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: sa.Dialect) -> str | None:
        return plain(value) if value else value


def plain(text: str) -> str:
    """Text as it is stored."""
    return text.replace("\x00", "\ufffd")


def states(kind: type[enum.StrEnum], name: str) -> sa.Enum:
    """A state column: stored as text, held to the enum's values by a CHECK of this name."""

    def values(members: Any) -> list[str]:
        return [member.value for member in members]

    return sa.Enum(kind, native_enum=False, create_constraint=True, values_callable=values, name=name, length=32)
