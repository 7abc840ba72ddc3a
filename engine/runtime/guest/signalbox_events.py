"""The callback of an Ansible step: one JSON line an event into a file, and a few words for people. Runs in the VM.

Not ansible-runner: Debian's package of it brings every community collection (thirty times ansible-core), a program
that types passwords and a terminal in between; of all that, these events are what a step needs.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

MAX_TEXT = 300
MAX_DIFF = 2_000
MAX_DIFFS = 64_000  # characters of all diffs that are printed
MAX_PATHS = 20
FACTS = ("setup", "gather_facts")
HIDDEN = "censored"


class CallbackModule(CallbackBase):  # type: ignore[misc] # Ansible has no types
    """What ansible-playbook calls. It takes the place of its own output."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "signalbox_events"

    def __init__(self) -> None:
        super().__init__()
        self._events = Path(os.environ["SIGNALBOX_EVENTS"])
        self._left = MAX_DIFFS

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """A play begins."""
        self._note("play", task=play.get_name())

    def v2_playbook_on_no_hosts_matched(self) -> None:
        """The play that began is for no host at all."""
        self._note("no_hosts")

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task ended well, changed something or not."""
        self._result("ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A task failed. Whether it is rescued, only the end tells."""
        self._result("failed", result, ignored=bool(ignore_errors))

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """The host could not be reached, or not be entered."""
        self._result("unreachable", result, ignored=bool(result._task.ignore_unreachable))  # noqa: SLF001 - no other way

    def v2_runner_on_skipped(self, result: Any) -> None:
        """A task's condition was not met, or check mode cannot do it."""
        self._result("skipped", result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The end. What failed and was rescued is no failure here."""
        hosts = {host: stats.summarize(host) for host in sorted(stats.processed)}
        self._note("stats", hosts=hosts)

    def _result(self, event: str, result: Any, *, ignored: bool = False) -> None:
        task, host, said = result._task, result._host.get_name(), result._result  # noqa: SLF001 - Ansible's own way
        if task.action.rpartition(".")[2] in FACTS and event in {"ok", "skipped"}:
            return
        name = _plain(task.get_name())[:MAX_TEXT]
        changed = event == "ok" and bool(said.get("changed"))
        why = _why(said) if event in {"failed", "unreachable"} else ""
        delegated = str(task.delegate_to or "")
        paths = (_paths(said) or _asked(task.args)) if changed else []
        more = {"ignored": ignored, "delegated": delegated, "why": why, "paths": paths}
        self._note(event, task=name, host=host, changed=changed, **more)
        self._tell("changed" if changed else event, name, why, paths)
        if changed:
            self._show(said)

    def _note(self, event: str, **values: object) -> None:
        with self._events.open("a") as file:
            file.write(json.dumps({"event": event, **values}) + "\n")

    def _tell(self, word: str, name: str, why: str, paths: list[str]) -> None:
        where = f" ({', '.join(paths)})" if paths else ""
        print(f"  {word:<12}{name}{where}" + (f": {why}" if why else ""), flush=True)

    def _show(self, said: dict[str, Any]) -> None:
        """The diff of what changed, or would, if the task has one; none of it where the task says no_log."""
        if said.get("_ansible_no_log") or HIDDEN in said:
            return
        for one in (said, *_items(said)):
            if one.get("diff") and not one.get("_ansible_no_log"):
                text = _plain(self._get_diff(one["diff"]), keep="\n").strip("\n")[: min(MAX_DIFF, self._left)]
                self._left -= len(text)
                print("\n".join(f"    {line}" for line in text.splitlines()), flush=True)


def _items(said: dict[str, Any]) -> list[dict[str, Any]]:
    results = said.get("results")
    return [one for one in results if isinstance(one, dict)] if isinstance(results, list) else []


def _paths(said: dict[str, Any]) -> list[str]:
    """The paths that a result says it changed, in its own words or in its diff's."""
    found: list[str] = []
    for one in (said, *(item for item in _items(said) if item.get("changed"))):
        diffs = one.get("diff") or []
        told = [one.get("dest"), one.get("path")]
        for diff in diffs if isinstance(diffs, list) else [diffs]:
            if isinstance(diff, dict):
                told += [diff.get("before_header"), _inner(diff.get("after"))]
        found += [path for path in told if isinstance(path, str) and path.startswith("/")]
    return [_plain(path.removesuffix(" (content)"))[:MAX_TEXT] for path in dict.fromkeys(found)][:MAX_PATHS]


def _asked(args: Any) -> list[str]:
    """The path that the task names, where its result names none: a file that is not there yet, in check mode."""
    named = [args.get("dest"), args.get("path")] if isinstance(args, dict) else []
    return [path[:MAX_TEXT] for path in named if isinstance(path, str) and path.startswith("/") and "{" not in path]


def _inner(after: object) -> object:
    return after.get("path") if isinstance(after, dict) else None


def _why(said: dict[str, Any]) -> str:
    parts = [said.get("msg"), said.get("stderr"), *(item.get("msg") for item in _items(said) if item.get("failed"))]
    return "; ".join(_plain(str(part))[:MAX_TEXT] for part in parts if part)[: 2 * MAX_TEXT]


def _plain(text: str, keep: str = "") -> str:
    return "".join(char if char.isprintable() or char in keep else " " for char in text)
