#!/usr/bin/env python3
"""Step `diagnose`: did its configuration stop `orders`? Runs in the step's VM, looks at the target by ssh as `reader`.

The last line of its output is the claim: {cause, last_good, evidence}. `unknown` is an answer.
"""

import json
import subprocess
import sys

LOOK = """
set -eu
cd /srv/orders
echo == log
tail -n 3 log/app.log
echo == config
cat orders.json
echo
echo == last good
cat orders.last-good.json
"""


def sections(text: str) -> dict[str, str]:
    """What stands under each `== name`."""
    found: dict[str, str] = {}
    for part in text.split("== ")[1:]:
        name, _, body = part.partition("\n")
        found[name] = body.strip()
    return found


def diagnose(text: str) -> dict[str, object]:
    """The claim, from what the target said. Raises ValueError or KeyError when it said nonsense."""
    said = sections(text)
    last_good = json.loads(said["last good"])
    refused = "cannot start" in said["log"].splitlines()[-1]
    changed = said["config"] != said["last good"]
    return {
        "cause": "bad_configuration" if refused and changed else "unknown",
        "last_good": last_good,
        "evidence": [*said["log"].splitlines(), f"configured: {said['config'][:500]}"],
    }


def main() -> None:
    """Look and print."""
    looked = subprocess.run(
        ["ssh", "target", "--", "sh", "-s"], input=LOOK, capture_output=True, text=True, check=False
    )
    if looked.returncode != 0:
        sys.exit(f"could not look at the target: {looked.stderr.strip()}")
    print(json.dumps(diagnose(looked.stdout)))


if __name__ == "__main__":
    main()
