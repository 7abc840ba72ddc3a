"""A runbook with an agent that diagnoses, and situations for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from engine.runbooks.skeleton import AGENT

STUCK = """
schema: situation/v1
title: the queue of web does not move
inputs: {unit: web}
claims: {}
commands:
  - {on: target, argv: [systemctl, status, web], stdout: "web.service: deactivating\\n", code: 3}
logs: {web: "queue: 40 waiting\\nqueue: 40 waiting\\n"}
metrics: {web_queue: [40]}
files: {/step/claims.json: "{}"}
right: out.cause == "stuck"
"""
WELL = """
schema: situation/v1
title: web is idle, and somebody else is ill
inputs: {unit: web}
commands:
  - {on: target, argv: [systemctl, status, web], stdout: "web.service: active\\n"}
right: out.cause == "unknown"
"""


def write_runbook(folder: Path, told: Mapping[str, str]) -> None:
    """The skeleton with an agent, and these situations of its step `diagnose`, by name."""
    (folder / "example.yaml").write_text(AGENT.text)
    files = dict(AGENT.files) | {f"evals/diagnose/{name}.yaml": text.encode() for name, text in told.items()}
    for path, data in files.items():
        where = folder / "example" / path
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(data)
