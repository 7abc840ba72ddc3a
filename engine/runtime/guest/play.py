"""Carries out the playbook of a step: shows, runs, runs again. Runs in the VM as the step; standard library only.

    play.py PLAYBOOK check            what it would change, with diffs; changes nothing
    play.py PLAYBOOK check run rerun  then does it, then does it once more, which must change nothing

Beside it lie what `engine.runtime.runners.ansible` wrote: ansible.cfg, hosts.json, vars.json and the callback. What
people see goes to stdout as it happens; the last line is the report, a JSON object, also when something went wrong.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TARGET = "target"
CHECK, RUN, RERUN = "check", "run", "rerun"
OPTIONS = {CHECK: ("--check", "--diff"), RUN: (), RERUN: ()}
MAX_LISTED = 40
MAX_NAME = 200
MAX_STDERR = 4_000


@dataclass
class Phase:
    """What one call of ansible-playbook did. Lists of names of tasks; `no_hosts`: of plays."""

    name: str
    code: int = 0
    stderr: str = ""
    tasks: int = 0
    skipped: int = 0
    changed: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    unreachable: list[str] = field(default_factory=list)
    no_hosts: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    ended: bool = False

    def add(self, event: Mapping[str, Any], play: str) -> None:
        """Count one event."""
        kind, task, why = event["event"], str(event.get("task", "")), event.get("why", "")
        if kind == "no_hosts":
            self.no_hosts.append(play)
        if kind == "stats":
            self.ended = True
        if kind not in {"ok", "failed", "unreachable", "skipped"}:
            return
        if event["host"] != TARGET or event["delegated"]:
            self.strangers.append(f"{task} on {event['delegated'] or event['host']}")
        named = f"{task}: {why}" if why else task
        if kind == "skipped":
            self.skipped += 1
        elif kind == "unreachable":
            self.unreachable.append(named)
        else:
            self.tasks += 1
        if kind == "failed":
            (self.ignored if event["ignored"] else self.failed).append(named)
        if event["changed"]:
            self.changed.append(task)
            self.paths += event["paths"]

    @property
    def rescued(self) -> list[str]:
        """Tasks that failed in a play that went on to its end."""
        return self.failed if self.code == 0 else []

    def fault(self) -> str:
        """Why this is not as it should be; empty when it is."""
        last = self.stderr.strip().splitlines()[-1:] or ["it says nothing"]
        nothing_ran = self.tasks == 0 and not (self.name == CHECK and self.skipped)
        faults = (
            (self.unreachable, f"the target could not be reached: {_listed(self.unreachable)}"),
            (self.strangers, f"a task did not work on the target: {_listed(self.strangers)}"),
            (self.code != 0 and self.failed, f"a task failed: {_listed(self.failed)}"),
            (self.code != 0, f"ansible-playbook ended with {self.code}: {last[0][:300]}"),
            (self.no_hosts, f"no host matched the play {_listed(self.no_hosts)}; it must say `hosts: {TARGET}`"),
            (not self.ended, "ansible-playbook ended without telling how"),
            (nothing_ran, f"no task ran, {self.skipped} were skipped"),
            (self.name == RERUN and self.changed, f"it is not idempotent, changed again: {_listed(self.changed)}"),
        )
        return next((f"{self.name}: {why}" for is_so, why in faults if is_so), "")


def _listed(names: Iterable[str]) -> str:
    found = list(dict.fromkeys(names))
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return "; ".join(name[:MAX_NAME] for name in found[:5]) + more


def read(phase: Phase, lines: Iterable[str]) -> Phase:
    """The events of a phase, one JSON object a line."""
    play = ""
    for line in lines:
        event = json.loads(line)
        if event["event"] == "play":
            play = str(event["task"])
        phase.add(event, play)
    return phase


def carry_out(name: str, playbook: Path) -> Phase:
    """Call ansible-playbook once."""
    events = HERE / f"{name}.events"
    events.touch()
    print(f"== {name}", flush=True)
    done = subprocess.run(
        [
            "ansible-playbook",
            *("--inventory", str(HERE / "hosts.json"), "--extra-vars", f"@{HERE / 'vars.json'}"),
            *OPTIONS[name],
            str(playbook),
        ],
        cwd=playbook.parent,
        env=os.environ | {"ANSIBLE_CONFIG": str(HERE / "ansible.cfg"), "SIGNALBOX_EVENTS": str(events)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    stderr = done.stderr[-MAX_STDERR:]
    sys.stderr.write(stderr)
    return read(Phase(name, code=done.returncode, stderr=stderr), events.read_text().splitlines())


def report(phases: Mapping[str, Phase], why: str) -> dict[str, Any]:
    """What the step says: its keys are `PLAY_OUTPUT` of engine/domain/runbook.py, and `why` when it failed."""
    check, run, rerun = (phases.get(name, Phase(name)) for name in OPTIONS)
    return {
        "drift": bool(check.changed),
        "paths": _short(sorted(check.paths)),
        "would_change": _short(check.changed),
        "changed": _short(run.changed),
        "changed_again": _short(rerun.changed),
        "ignored": _short(name for phase in phases.values() for name in phase.ignored),
        "rescued": _short(name for phase in phases.values() for name in phase.rescued),
        "tasks": (run if RUN in phases else check).tasks,
        **({"why": why} if why else {}),
    }


def _short(names: Iterable[str]) -> list[str]:
    return [name[:MAX_NAME] for name in dict.fromkeys(names)][:MAX_LISTED]


def main() -> int:
    """Phase by phase; nothing follows one that is not as it should be."""
    playbook, *names = sys.argv[1:]
    phases: dict[str, Phase] = {}
    why = ""
    for name in names:
        phases[name] = phase = carry_out(name, Path(playbook))
        changed = f"{len(phase.changed)} {'would change' if name == CHECK else 'changed'}"
        passed = "".join(f"; passed over: {_listed(failed)}" for failed in (phase.ignored, phase.rescued) if failed)
        print(f"   {phase.tasks} tasks ran, {changed}, {phase.skipped} skipped{passed}", flush=True)
        why = phase.fault()
        if why:
            print(why, file=sys.stderr)
            break
    print(json.dumps(report(phases, why)), flush=True)
    return 1 if why else 0


if __name__ == "__main__":
    sys.exit(main())
