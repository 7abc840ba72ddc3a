"""Gate kinds: one kind of check a file. Coordination knows them by the port `Measure`; wiring calls `kinds()`."""

from __future__ import annotations

from engine.domain.directory import Directory
from engine.domain.ports import GateKinds
from engine.gates import command, diff, digest, expr, http, log, pattern, policy, promql, schema, sql


def kinds(directory: Directory, prometheus_url: str) -> GateKinds:
    """Every kind by the name that a check's `type` gives; each measures once a call and never raises."""
    return {
        "command": command.measure,
        "http": http.build(directory),
        "promql": promql.build(prometheus_url),
        "sql": sql.build(directory),
        "log": log.measure,
        "pattern": pattern.measure,
        "digest": digest.measure,
        "expr": expr.measure,
        "schema": schema.measure,
        "diff": diff.measure,
        "policy": policy.measure,
    }
