#!/usr/bin/env python3
"""Step `diagnose`: does the flaw concern production? Runs in the step's VM, looks at the target by ssh as `reader`.

Arguments: the CVE, the package, and the version that mends it, as the scanner says them. The last line of its output
is the claim: {state, installed, evidence}. A CVE that advisories.json does not know, or knows otherwise than the
scanner, is `unknown`.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ADVISORIES = Path("/step/runbook/advisories.json")
DATABASE = "/srv/catalog/root/var/lib/dpkg"
NO_SUCH_PACKAGE = 1
VERSION = re.compile(r"[0-9][0-9A-Za-z.+~:-]{0,60}", re.ASCII)


def earlier(one: str, other: str) -> bool:
    """Whether a version is earlier than another, in dpkg's order."""
    compared = subprocess.run(["dpkg", "--compare-versions", one, "lt", other], check=False)
    return compared.returncode == 0


def diagnose(said: str, advisory: object, package: str, fixed: str) -> dict[str, object]:
    """The claim, from what dpkg-query said on the target."""
    status, _, installed = said.strip().partition(" ")
    known = isinstance(advisory, dict) and (advisory["package"], advisory["fixed"]) == (package, fixed)
    if not known or status != "installed" or not VERSION.fullmatch(installed):
        state = "unknown"
    else:
        state = "vulnerable" if earlier(installed, fixed) else "not_affected"
    return {
        "state": state,
        "installed": installed[:60],
        "evidence": [f"dpkg: {package} {said.strip()[:200]}", f"the advisory: {json.dumps(advisory)}"],
    }


def main() -> None:
    """Look and print."""
    cve, package, fixed = sys.argv[1:]
    # the package is one of a list: see the runbook's inputs
    look = f"dpkg-query --admindir={DATABASE} -W -f='${{db:Status-Status}} ${{Version}}' {package}"
    looked = subprocess.run(["ssh", "target", "--", look], capture_output=True, text=True, check=False)
    if looked.returncode not in {0, NO_SUCH_PACKAGE}:
        sys.exit(f"could not look at the target: {looked.stderr.strip()}")
    print(json.dumps(diagnose(looked.stdout, json.loads(ADVISORIES.read_text()).get(cve), package, fixed)))


if __name__ == "__main__":
    main()
