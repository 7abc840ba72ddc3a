#!/usr/bin/env python3
"""Step `diagnose`: what fills the disk? Runs in the step's VM, looks at the target by ssh as `reader`.

The last line of its output is the claim: {cause, path, used_percent, biggest_bytes, evidence}. `unknown` is an answer.
"""

import json
import subprocess
import sys

LOG = "/srv/checkout/log/app.log"
LARGEST_SHARE = 0.5
""" The log is the reason if it holds more than this share of what is used. """

# one connection; what a reader may not see (lost+found) is skipped
LOOK = """
set -eu
echo == disk
df -P -B1 "$1" | tail -n 1
echo == files
find "$1" -xdev -type f -printf '%s %p\\n' 2>/dev/null | sort -rn | head -n 5
echo == config
cat /srv/checkout/checkout.json
"""


def sections(text: str) -> dict[str, list[str]]:
    """The lines under each `== name`."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("== "):
            name = line[3:]
        found.setdefault(name, []).append(line)
    return {name: lines[1:] for name, lines in found.items()}


def diagnose(text: str) -> dict[str, object]:
    """The claim, from what the target said. Raises ValueError (also KeyError, IndexError) when it said nonsense."""
    said = sections(text)
    disk = said["disk"][0].split()
    used, percent = int(disk[2]), int(disk[4].rstrip("%"))
    size_text, path = said["files"][0].split(" ", 1)
    size = int(size_text)
    level = json.loads("\n".join(said["config"])).get("log_level")
    is_log = path == LOG and level == "debug" and size > LARGEST_SHARE * used
    return {
        "cause": "log_growth" if is_log else "unknown",
        "path": path,
        "used_percent": percent,
        "biggest_bytes": size,
        "evidence": [*said["disk"], *said["files"], f"log_level {level}"],
    }


def main() -> None:
    """Look and print."""
    mount = sys.argv[1]  # one of an enum of the runbook, so it needs no quoting for the shell on the other side
    looked = subprocess.run(
        ["ssh", "target", "--", "sh", "-s", "--", mount], input=LOOK, capture_output=True, text=True, check=False
    )
    if looked.returncode != 0:
        sys.exit(f"could not look at the target: {looked.stderr.strip()}")
    claim = diagnose(looked.stdout)
    print(f"{claim['path']} holds {claim['biggest_bytes']} bytes; the disk is {claim['used_percent']} % full")
    print(json.dumps(claim))


if __name__ == "__main__":
    main()
