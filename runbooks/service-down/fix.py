#!/usr/bin/env python3
"""Step `fix`: the last good configuration becomes the artefact. Touches no host.

What the target said is not trusted: only the known keys, each with a value of its own narrow kind, are written.
The same diagnosis gives the same bytes.
"""

import json
import re
import sys
from pathlib import Path

PATTERNS = {"currency": r"[A-Z]{3}", "prices": r"[a-z0-9-]{1,40}\.csv"}
MOST_WORKERS = 64


def values(diagnosis: dict[str, object]) -> dict[str, object]:
    """The configuration to put back. Raises ValueError."""
    if diagnosis.get("cause") != "bad_configuration":
        raise ValueError(f"there is no fix for the cause {diagnosis.get('cause')!r}")
    good = diagnosis["last_good"]
    if not isinstance(good, dict) or set(good) != {*PATTERNS, "workers"}:
        raise ValueError("the last good configuration has other keys")
    for name, pattern in PATTERNS.items():
        if not isinstance(good[name], str) or not re.fullmatch(pattern, good[name]):
            raise ValueError(f"{name} of the last good configuration is not one")
    if type(good["workers"]) is not int or not 1 <= good["workers"] <= MOST_WORKERS:
        raise ValueError("workers of the last good configuration is no number from 1 to 64")
    return good


def main() -> None:
    """Write the artefact."""
    try:
        new = values(json.loads(Path("/step/claims.json").read_text())["diagnose"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"no fix without a diagnosis: {error}")
    out = Path("/step/out")
    out.mkdir(exist_ok=True)
    (out / "orders.json").write_text(json.dumps(new, sort_keys=True) + "\n")
    print("the last good configuration is the fix")


if __name__ == "__main__":
    main()
