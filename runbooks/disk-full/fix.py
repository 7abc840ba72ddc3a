#!/usr/bin/env python3
"""Step `fix`: from the diagnosis to what will be applied, the same bytes on staging and production. Touches no host.

Reads /step/claims.json (what earlier steps printed, by step) and writes /step/out/fix.json, the new values of the
configuration, and /step/out/fix.sh, which sets them. The same diagnosis gives the same bytes.
"""

import json
import sys
from pathlib import Path

SMALLEST_MB, LARGEST_MB = 4, 64

# Runs on the target as `operator`, by `sh -s`. Safe to run twice: what is done is not done again.
FIX = """\
set -eu
umask 002
cd /srv/checkout
rm -f checkout.json.new
python3 -IS -c '
import json, sys
with open("checkout.json") as file:
    old = json.load(file)
new = {**old, **json.loads(sys.argv[1])}
if new != old:
    with open("checkout.json.new", "w") as file:
        json.dump(new, file)
' '@VALUES@'
if [ -e checkout.json.new ]; then
  cp -p checkout.json checkout.json.before
  # moved before the service learns to cut its log, and compressed below: no line is lost
  [ ! -e log/app.log ] || mv log/app.log "log/app.log.$(date -u +%Y%m%dT%H%M%SZ)"
  mv checkout.json.new checkout.json
  printf '%s %s\\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "${ATTEMPT:-unknown}" >>effects.log
  touch reload
fi
tries=0
while [ -e reload ] && [ "$tries" -lt 60 ]; do sleep 0.5; tries=$((tries + 1)); done
[ ! -e reload ] || { echo 'checkout did not reload its configuration' >&2; exit 1; }
for log in log/app.log.*Z; do [ ! -e "$log" ] || gzip -1 -- "$log"; done
"""


def values(diagnosis: dict[str, object]) -> dict[str, object]:
    """The new values: no debug lines, and a log that is cut at an eighth of what it had grown to."""
    if diagnosis.get("cause") != "log_growth":
        raise ValueError(f"there is no fix for the cause {diagnosis.get('cause')!r}")
    size = diagnosis["biggest_bytes"]
    if type(size) is not int:
        raise ValueError("biggest_bytes is no whole number")
    return {"log_level": "info", "rotate_mb": max(SMALLEST_MB, min(LARGEST_MB, size // 8 >> 20))}


def main() -> None:
    """Write the artefact."""
    try:
        new = values(json.loads(Path("/step/claims.json").read_text())["diagnose"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"no fix without a diagnosis: {error}")
    text = json.dumps(new, sort_keys=True)
    out = Path("/step/out")
    out.mkdir(exist_ok=True)
    (out / "fix.json").write_text(text + "\n")
    (out / "fix.sh").write_text(FIX.replace("@VALUES@", text))
    print(f"new values: {text}")


if __name__ == "__main__":
    main()
