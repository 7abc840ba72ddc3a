"""Runbooks: from YAML with its folder of scripts to values that the engine trusts. Wiring makes the `Shelf`."""

from __future__ import annotations

from engine.runbooks.format import schema
from engine.runbooks.shelf import Shelf

__all__ = ["Shelf", "schema"]
