"""Runs Terraform in a step's VM, as /step/terraform/job.json says. Standard library only; sent along by the runner.

plan    make a plan, leave it and what it would change in /step/out
apply   apply exactly the plan file of the artefact, once it was seen to hold what was reviewed
again   after a rehearsal, whose undoing made the plan file stale: plan anew, apply if it is the same change
undo    plan with the variables of before, apply if nothing is touched but what the reviewed plan changed
After each of the last three a new plan must find nothing to do.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from engine.runtime.runners.terraform import changes

STEP = Path("/step")
WORK = STEP / "work"
OUT = STEP / "out"
REVIEWED = STEP / "artefact"
LOCK = "terraform.lock.hcl"
NOTHING_TO_DO, SOMETHING_TO_DO = 0, 2


class Failed(Exception):
    """The step must not go on; the message is for a person."""


class Terraform:
    """Terraform in a copy of one configuration."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.folder = WORK / "configuration"
        shutil.copytree(STEP / "runbook" / job["config"], self.folder)
        shutil.copyfile(self.folder / LOCK, self.folder / f".{LOCK}")  # a runbook's folder has no hidden files
        self.env = {
            **os.environ,
            **{name: (Path("/run/secrets") / secret).read_text().rstrip("\n") for name, secret in job["env"].items()},
            "TF_IN_AUTOMATION": "1",
            "TF_INPUT": "0",
            "CHECKPOINT_DISABLE": "1",
            "TF_DATA_DIR": str(WORK / "data"),
        }
        backend = [f"-backend-config={key}={value}" for key, value in job["backend"].items()]
        self.run("init", "-no-color", "-lockfile=readonly", *backend)

    def run(self, command: str, *args: str, may: Iterable[int] = (0,), keep: bool = False) -> tuple[int, str]:
        """Exit code and, if it is kept, stdout, which people see as it comes otherwise.

        Raises Failed with Terraform's own first error for any code but those that it may.
        """
        argv = ["terraform", f"-chdir={self.folder}", command, *args]
        print(f"$ terraform {command}", flush=True)
        out = subprocess.PIPE if keep else None
        done = subprocess.run(argv, env=self.env, stdout=out, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode not in may:
            print(done.stderr, file=sys.stderr)
            raise Failed(f"terraform {command}: {_first_error(done.stderr)[:250] or done.returncode}")
        return done.returncode, done.stdout or ""

    def plan(self, variables: dict[str, str], to: Path) -> tuple[int, Any]:
        """Plan with these variables; exit code, and the plan as `terraform show -json` prints it."""
        values = WORK / "variables.tfvars.json"
        values.write_text(json.dumps(variables))
        flags = ("-no-color", "-detailed-exitcode", "-lock-timeout=30s", f"-var-file={values}", f"-out={to}")
        code, _ = self.run("plan", *flags, may=(NOTHING_TO_DO, SOMETHING_TO_DO))
        return code, self.show(to)

    def show(self, plan: Path) -> Any:
        return json.loads(self.run("show", "-json", str(plan), keep=True)[1])

    def apply(self, plan: Path, variables: dict[str, str]) -> None:
        """Apply a plan file; then a new plan must find nothing to do."""
        self.run("apply", "-no-color", "-lock-timeout=30s", str(plan))
        code, shown = self.plan(variables, WORK / "after.tfplan")
        if code != NOTHING_TO_DO:
            left = changes.reduced(shown)
            rows = [*left["resource_drift"], *left["resource_changes"]]
            what = [line.strip() for line in changes.lines(rows)] or [f"outputs {', '.join(left['output_changes'])}"]
            raise Failed(f"applied, but it did not stay: a new plan finds {'; '.join(what)}"[:280])


def _first_error(err: str) -> str:
    """What Terraform says of its first error, without its frame and without where in which file."""
    said = [line.strip("│╷╵ \t") for line in err.splitlines()]
    at = next((number for number, line in enumerate(said) if line.startswith("Error:")), 0)
    words = [line for line in said[at:] if line and not re.match(r"on \S+ line \d|\d+:|├|with \S+,$", line)]
    return " ".join(words)


def plan(terraform: Terraform, job: dict[str, Any]) -> None:
    OUT.mkdir(exist_ok=True)
    _, shown = terraform.plan(job["variables"], OUT / "plan.tfplan")
    (OUT / "shown.json").write_text(json.dumps(shown))


def apply(terraform: Terraform, job: dict[str, Any]) -> None:
    held = changes.reduced(terraform.show(REVIEWED / "plan.tfplan"))
    if held != job["reviewed"]:
        raise Failed("nothing was applied: the plan file holds something else than what was reviewed")
    terraform.apply(REVIEWED / "plan.tfplan", job["variables"])


def again(terraform: Terraform, job: dict[str, Any]) -> None:
    _, shown = terraform.plan(job["variables"], WORK / "again.tfplan")
    found = changes.reduced(shown)
    if changes.shape(found, job["target"]) != changes.shape(job["reviewed"], job["target"]):
        raise Failed("nothing was applied: after the rehearsal the change is not the reviewed one any more")
    terraform.apply(WORK / "again.tfplan", job["variables"])


def undo(terraform: Terraform, job: dict[str, Any]) -> None:
    code, shown = terraform.plan(job["before"], WORK / "undo.tfplan")
    if code == NOTHING_TO_DO:
        print("nothing to undo: all is as it was before")
        return
    mine = {row["address"] for row in job["reviewed"]["resource_changes"]}
    others = sorted({row["address"] for row in changes.reduced(shown)["resource_changes"]} - mine)
    if others:
        raise Failed(f"nothing was undone: it would touch {', '.join(others)}, which the change did not"[:280])
    terraform.apply(WORK / "undo.tfplan", job["before"])


def main() -> None:
    """Do the job; its failure is the last line of stderr."""
    job = json.loads((STEP / "terraform" / "job.json").read_text())
    WORK.mkdir()
    try:
        {"plan": plan, "apply": apply, "again": again, "undo": undo}[job["action"]](Terraform(job), job)
    except (Failed, OSError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
