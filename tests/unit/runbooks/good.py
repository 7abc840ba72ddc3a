"""A runbook that keeps every rule, as plain values to be bent by a test, and what the shelf says about the result."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import yaml

from engine.domain.errors import BadInput
from engine.domain.runbook import Snapshot
from engine.runbooks import Shelf

_ENTERS = b"#!/bin/sh\nssh target -- true\n"
FILES = {"look.sh": _ENTERS, "make.sh": b"#!/bin/sh\n", "apply.sh": _ENTERS, "undo.sh": _ENTERS}

TEXT = """\
schema: runbook/v1
name: good
title: Something breaks
owner: team
trigger: {alertname: [Broken], severity: [critical]}
deadline: 2h
inputs:
  unit: {from: alert.labels.unit, pattern: '^[a-z]{1,20}$'}
targets:
  staging:
    host: staging.demo
    verifier: {user: verifier, secret: {name: ssh, engine: kv, path: kv/data/staging/verifier, fields: [key]}}
  production:
    host: production.demo
    protected: true
    verifier: {user: verifier, secret: {name: ssh, engine: kv, path: kv/data/production/verifier, fields: [key]}}
escalate: {to: "@oncall", after: 15m}
steps:
  - {id: receive, kind: receive}
  - id: look
    kind: script
    script: look.sh
    args: ["{{ inputs.unit }}"]
    target: production
    access: read
    login: {user: reader, key: ssh}
    network: [{host: "{{ target.host }}", port: 22}]
    secrets: [{name: ssh, engine: kv, path: kv/data/production/reader, fields: [key]}]
    output: {required: [cause], enums: {cause: [known, unknown]}}
    timeout: 1m
    idempotent: true
  - id: confirmed
    kind: gate
    of: look
    checks:
      - {id: cause, type: expr, of: look, unless: out.cause == "unknown", expect: out.cause == "known"}
      - {id: state, type: command, target: production, run: [state, "{{ inputs.unit }}"], expect: 'out == "bad"'}
  - {id: make, kind: script, script: make.sh, access: none, produces: {name: fix}, timeout: 1m, idempotent: true}
  - id: staging
    kind: script
    script: apply.sh
    uses: make
    target: staging
    access: write
    login: {user: operator, key: ssh}
    network: [{host: "{{ target.host }}", port: 22}]
    secrets: [{name: ssh, engine: kv, path: kv/data/staging/operator, fields: [key]}]
    timeout: 1m
    idempotent: false
    rehearse: true
    rollback:
      script: undo.sh
      checks:
        - {id: answers, type: http, target: staging, path: /healthz, expect: status == 200}
  - id: tested
    kind: gate
    fresh_for: 30m
    of: staging
    checks:
      - {id: answers, type: http, target: staging, path: /healthz, expect: status == 200}
      - {id: same, type: digest, of: production, equals: staging}
  - id: production
    kind: script
    script: apply.sh
    uses: make
    target: production
    access: write
    approve: {expires: 30m}
    login: {user: operator, key: ssh}
    network: [{host: "{{ target.host }}", port: 22}]
    secrets: [{name: ssh, engine: kv, path: kv/data/production/operator, fields: [key]}]
    timeout: 1m
    idempotent: false
    rollback:
      script: undo.sh
      checks:
        - {id: answers, type: http, target: production, path: /healthz, expect: status == 200}
  - id: healthy
    kind: gate
    of: production
    checks:
      - {id: rate, type: promql, target: production, query: 'errors{env="production"}', expect: "result[0] < 0.1"}
  - {id: close, kind: close}
"""

Raw = dict[str, Any]


def raw() -> Raw:
    """The good runbook as values of one's own."""
    values: Raw = copy.deepcopy(yaml.safe_load(TEXT))
    return values


def step(values: Raw, step_id: str) -> Raw:
    """The step of this id."""
    found: Raw = next(one for one in values["steps"] if one["id"] == step_id)
    return found


def place(values: Raw, step_id: str) -> int:
    """Where this step stands."""
    return [one["id"] for one in values["steps"]].index(step_id)


def restore(text: str, files: dict[str, bytes] | None = None) -> Snapshot:
    """Load a text as a run would; raises BadInput."""
    return Shelf(Path("/nonexistent")).restore(text, FILES if files is None else files)


def reads(tmp_path: Path, values: Raw, images: tuple[str, ...] | None) -> str:
    """What the shelf says of a file on a machine with these images; empty when it reads."""
    (tmp_path / "good").mkdir(exist_ok=True)
    for name, data in FILES.items():
        (tmp_path / "good" / name).write_bytes(data)
    (tmp_path / "good.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    try:
        Shelf(tmp_path, images).read("good")
    except BadInput as error:
        return str(error)
    return ""


def problems(values: Raw | str, files: dict[str, bytes] | None = None) -> list[str]:
    """Every line of the refusal as `line: what - mend`, without the file's name; empty when it loads."""
    text = values if isinstance(values, str) else json.dumps(values, indent=1)  # JSON is YAML, and has no anchors
    try:
        restore(text, files)
    except BadInput as refusal:
        return [re.sub(r"^the stored runbook:(\d+):\d+:", r"\1:", line) for line in str(refusal).splitlines()]
    return []
