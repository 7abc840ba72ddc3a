#!/usr/bin/env python3
"""Step `diagnose`: does the memory of `reports` grow? Runs in the step's VM, looks at the target by ssh as `reader`.

The last line of its output is the claim: {cause, rss_kb, evidence}. `unknown` is an answer.
"""

import itertools
import json
import re
import subprocess
import sys

LARGE_KB = 60_000
LEAST_LINES = 3
LOOK = "ps -C python3 -o rss= && echo == && grep -a 'rss_kb=' /srv/reports/log/app.log | tail -n 6"


def diagnose(text: str) -> dict[str, object]:
    """The claim, from what the target said. Raises ValueError when it said nonsense."""
    now, _, log = text.partition("==")
    rss = int(now)
    grown = [int(number) for number in re.findall(r"rss_kb=(\d{1,9})$", log, re.M)]
    grows = len(grown) >= LEAST_LINES and all(one < other for one, other in itertools.pairwise(grown))
    return {
        "cause": "leak" if rss > LARGE_KB and grows else "unknown",
        "rss_kb": rss,
        "evidence": [f"now {rss} kB", *log.strip().splitlines()],
    }


def main() -> None:
    """Look and print."""
    looked = subprocess.run(["ssh", "target", "--", LOOK], capture_output=True, text=True, check=False)
    if looked.returncode != 0:
        sys.exit(f"could not look at the target: {looked.stderr.strip()}")
    print(json.dumps(diagnose(looked.stdout)))


if __name__ == "__main__":
    main()
