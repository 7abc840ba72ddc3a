"""Digests: what was tested = what was approved = what is applied.

Every digest is `sha256:` + hex over canonical JSON (sorted keys, no spaces, UTF-8) or over raw bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence


def of_bytes(data: bytes) -> str:
    """The digest of raw bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def canonical(value: object) -> str:
    """A JSON-able value as it is hashed and signed.

    Raises TypeError for what is no JSON, ValueError for an infinite number.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def of_value(value: object) -> str:
    """The digest of a JSON-able value in canonical form; raises what `canonical` does, ValueError for half a character.

    Half a character: a lone surrogate, as JSON can spell it.
    """
    return of_bytes(canonical(value).encode())


def snapshot_digest(source: str, files: Mapping[str, bytes]) -> str:
    """The digest of a runbook: its YAML text and every file of its folder."""
    return of_value(
        {"source": of_bytes(source.encode()), "files": {path: of_bytes(data) for path, data in files.items()}}
    )


def content_digest(
    *, artefact: str | None, runner: str, script: str, args: Sequence[str], image: str, policy: str
) -> str:
    """Equal on staging and production: artefact (of a plan: what it would change), runner with version, script bytes,
    arguments that do not name the target, image, policy (the checks that judge it)."""
    return of_value(
        {"artefact": artefact, "runner": runner, "script": script, "args": list(args), "image": image, "policy": policy}
    )


def order_digest(
    *,
    content: str,
    artefact: str | None,
    run: str,
    leg: str,
    target: Mapping[str, object],
    args: Sequence[str],
    inputs: Mapping[str, str],
    grant: Mapping[str, object],
    rollback: str | None,
    runbook: str,
    evidence: Sequence[str],
) -> str:
    """What an approval binds: the content plus everything that makes this order this order.

    `artefact`: of all bytes that are applied, also of those that are not the same on every target.
    """
    return of_value(
        {
            "content": content,
            "artefact": artefact,
            "run": run,
            "leg": leg,
            "target": dict(target),
            "args": list(args),
            "inputs": dict(inputs),
            "grant": dict(grant),
            "rollback": rollback,
            "runbook": runbook,
            "evidence": list(evidence),
        }
    )
