"""Who may do what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Who may do what. `approvers` approve, decide, abandon, close, and throw the kill switch."""

    approvers: tuple[str, ...]
