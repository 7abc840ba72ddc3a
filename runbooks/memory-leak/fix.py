#!/usr/bin/env python3
"""Step `fix`: how `reports` is restarted, as an artefact. Touches no host. Always the same bytes."""

import json
import sys
from pathlib import Path

# Runs on the target as `operator`. The service answers what it holds, removes `drain`, and ends; it is kept running.
RESTART = """\
set -eu
umask 002
cd /srv/reports
touch drain
tries=0
until [ ! -e drain ] && grep -q ':1F90 00000000:0000 0A ' /proc/net/tcp; do
  tries=$((tries + 1)); [ "$tries" -lt 60 ] || { echo 'reports did not come back' >&2; exit 1; }
  sleep 0.5
done
"""


def main() -> None:
    """Write the artefact."""
    try:
        cause = json.loads(Path("/step/claims.json").read_text())["diagnose"]["cause"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"no fix without a diagnosis: {error}")
    if cause != "leak":
        sys.exit(f"there is no fix for the cause {cause!r}")
    out = Path("/step/out")
    out.mkdir(exist_ok=True)
    (out / "restart.sh").write_text(RESTART)
    print("a graceful restart is the fix")


if __name__ == "__main__":
    main()
