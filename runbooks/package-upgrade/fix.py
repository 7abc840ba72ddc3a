#!/usr/bin/env python3
"""Step `fix`: the package that mends the flaw, pinned to its bytes, as an artefact. Touches no host.

Argument: the CVE. Version and sha256 are those of advisories.json, which a person reviewed; nothing that the target or
the scanner said is in the artefact. It is one line, as sha256sum writes and checks it: `SHA256  NAME_VERSION_all.deb`.
"""

import json
import sys
from pathlib import Path

ADVISORIES = Path("/step/runbook/advisories.json")


def pin(advisories: dict[str, dict[str, str]], cve: str) -> str:
    """The line. Raises KeyError for a CVE that has no advisory."""
    advisory = advisories[cve]
    return f"{advisory['sha256']}  {advisory['package']}_{advisory['fixed']}_all.deb\n"


def main() -> None:
    """Write the artefact."""
    try:
        state = json.loads(Path("/step/claims.json").read_text())["diagnose"]["state"]
        line = pin(json.loads(ADVISORIES.read_text()), sys.argv[1])
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"no fix without a diagnosis and an advisory: {error}")
    if state != "vulnerable":
        sys.exit(f"there is no fix for the state {state!r}")
    out = Path("/step/out")
    out.mkdir(exist_ok=True)
    (out / "package.sha256").write_text(line)
    print(f"the fix is {line}", end="")


if __name__ == "__main__":
    main()
