#!/usr/bin/python3
"""`signalbox gate check`, inside a step's VM: is this step finished, may I proceed? Put there by the agent's runner.

Prints the answer as one line for people and one of JSON. Exit code 0: proceed; 1: not yet; 2: it could not be asked.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

GIVEN = "/step/.gateway.json"
USAGE = "usage: signalbox gate check"


def ask() -> tuple[int, dict[str, Any]]:
    """Status and answer; raises OSError, ValueError, KeyError."""
    given = json.loads(Path(os.environ.get("SIGNALBOX_PASS", GIVEN)).read_text())
    headers = {"Authorization": f"Bearer {given['token']}"}
    request = urllib.request.Request(given["url"], headers=headers)  # noqa: S310 - the URL is ours
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - as above
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def say(told: dict[str, Any]) -> str:
    """The answer in words."""
    step = told["id"]
    if told["may_proceed"]:
        return f"{step}: finished, and its gate held: proceed"
    if told["finished"]:
        return f"{step}: finished, not passed: its gate has not held. Do not proceed"
    return f"{step}: under way. It is finished when it ends; then its gate is measured, by somebody else"


def main(words: list[str]) -> int:
    """The command; returns its exit code."""
    if words in (["-h"], ["--help"], []):
        print(USAGE + "\n\nIs this step finished, may I proceed? Exit code 0: yes; 1: not yet; 2: cannot be asked.")
        return 0 if words else 2
    if words != ["gate", "check"]:
        print(USAGE, file=sys.stderr)
        return 2
    try:
        status, told = ask()
    except (OSError, ValueError, KeyError) as error:
        print(f"signalbox: the gateway does not answer: {error}", file=sys.stderr)
        return 2
    if status != 200:
        print(f"signalbox: {told.get('reason', status)}", file=sys.stderr)
        return 2
    print(say(told))
    print(json.dumps(told, sort_keys=True))
    return 0 if told["may_proceed"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
