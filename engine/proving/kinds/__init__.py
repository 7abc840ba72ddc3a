"""How each kind of gate is replayed: one file a kind. A new kind of gate adds its file and its line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.proving.kinds.command import Command
from engine.proving.kinds.diff import Diff
from engine.proving.kinds.digest import Digest
from engine.proving.kinds.expr import Expr
from engine.proving.kinds.http import Http
from engine.proving.kinds.log import Log
from engine.proving.kinds.pattern import Pattern
from engine.proving.kinds.policy import Policy
from engine.proving.kinds.port import Answer, Kind
from engine.proving.kinds.promql import Promql
from engine.proving.kinds.schema import Schema
from engine.proving.kinds.sql import Sql

__all__ = ["KINDS", "Answer", "Kind"]

KINDS: Mapping[str, Kind[Any, Any]] = {
    "command": Command(),
    "http": Http(),
    "promql": Promql(),
    "sql": Sql(),
    "log": Log(),
    "pattern": Pattern(),
    "digest": Digest(),
    "expr": Expr(),
    "schema": Schema(),
    "diff": Diff(),
    "policy": Policy(),
}
""" By the name that a check's `type` gives. A check of a type that is not here cannot be proved; a quorum is proved by
its members (`engine.proving.parts`). """
