"""What the Codex CLI is to Signalbox, in a hundred lines: it reads its configuration and its prompt, asks the model,
runs what that calls, and reports in lines of JSON. Run as the program `codex`; standard library only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


def report(kind: str, **item: Any) -> None:
    """One line."""
    _tell({"type": kind, "item": item} if item else {"type": kind})


def _tell(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def ask(config: dict[str, Any], history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the model answers to all that was said. `STANDS_FOR`: where the provider's name leads on this machine."""
    provider = config["model_providers"][config["model_provider"]]
    url = provider["base_url"].replace("http://model:80", os.environ.get("STANDS_FOR", "http://model"))
    body = {
        "model": os.environ.get("OTHER_MODEL", config["model"]),
        "input": [{"role": "developer", "content": config["developer_instructions"]}, *history],
        "tools": [{"type": "function", "name": "exec_command"}],
    }
    request = urllib.request.Request(
        f"{url}/responses",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {os.environ[provider['env_key']]}", "Content-Type": "application/json"},
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        said: list[dict[str, Any]] = json.load(answer)["output"]
        return said


def act(item: dict[str, Any]) -> list[dict[str, Any]]:
    """Do what one item of an answer asks for; returns what is said to it."""
    if item["type"] == "message":
        report("item.completed", type="agent_message", text=item["content"][0]["text"])
        return []
    command = json.loads(item["arguments"])["cmd"]
    report("item.started", type="command_execution", command=command)
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    printed = done.stdout + done.stderr
    report("item.completed", type="command_execution", aggregated_output=printed, exit_code=done.returncode)
    return [{"type": "function_call_output", "call_id": item["call_id"], "output": printed or "(nothing)"}]


def main() -> int:
    """One session."""
    config = tomllib.loads((Path(os.environ["CODEX_HOME"]) / "config.toml").read_text())
    history: list[dict[str, Any]] = [{"role": "user", "content": sys.stdin.read()}]
    report("turn.started")
    try:
        while True:
            said = ask(config, history)
            answers = [answer for item in said for answer in act(item)]
            history += [*said, *answers]
            if not answers:
                return 0
    except urllib.error.HTTPError as error:
        message = json.load(error)["error"]["message"]
        _tell({"type": "turn.failed", "error": {"message": f"{error.code}: {message}"}})
        return 1


if __name__ == "__main__":
    sys.exit(main())
