"""Is this machine fit for agent steps? `signalbox doctor` shows the findings. No model is asked: that costs money."""

from __future__ import annotations

import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.agents import codex
from engine.agents.models import Model, Models
from engine.domain.agent import AgentRule
from engine.domain.errors import BadInput

BWRAP_S = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at; `remedy` is for a person, when it is not well."""

    part: str
    well: bool
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An agent step of a runbook."""

    runbook: str
    step: str
    rule: AgentRule


def examine(models: Models, steps: Sequence[Wanted]) -> Iterator[Finding]:
    """The file and its keys, what steps ask of it, and what keeps the loop apart."""
    if not models.by_name and not steps:
        yield Finding(part="models", well=True, text="none, and no runbook has an agent step")
    for _, model in sorted(models.by_name.items()):
        yield _model(model)
    for step in steps:
        yield from _step(models, step)
    if models.by_name:
        text = "whether one really calls tools: `signalbox model check NAME` asks it, which costs a little"
        yield Finding(part="models", well=True, text=text)
    if steps:
        yield _bubblewrap()


def _model(model: Model) -> Finding:
    text = f"{model.name}: {model.model} at {model.address.host}:{model.address.port} ({model.api})"
    try:
        model.key()
    except BadInput as error:
        return Finding(part="models", well=False, text=str(error), remedy=error.remedy)
    if model.key_file is not None and model.key_file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        text = f"{model.name}: its key in {model.key_file} is open to other users"
        return Finding(part="models", well=False, text=text, remedy=f"chmod 600 {model.key_file}")
    return Finding(part="models", well=True, text=text)


def _step(models: Models, step: Wanted) -> Iterator[Finding]:
    where = f"step {step.step} of {step.runbook}"
    model = models.by_name.get(step.rule.model)
    if model is None:
        text = f"{where} asks model {step.rule.model}, which is not configured"
        yield Finding(part="models", well=False, text=text, remedy=f"add it to {models.path}: see README, Models")
    elif step.rule.budget.microdollars is not None and model.price is None:
        text = f"{where} has a budget in dollars, and model {model.name} has no price: it will not start"
        yield Finding(part="models", well=False, text=text, remedy=f"add its `price` to {models.path}")
    elif step.rule.cli is not None and model.api is not codex.API:
        text = f"{where} is worked by {step.rule.cli}, which speaks {codex.API}, and model {model.name} {model.api}"
        yield Finding(part="models", well=False, text=text, remedy=f"name a model with `api: {codex.API}`")


def _bubblewrap() -> Finding:
    """A real try: where user namespaces are forbidden it is there and does not work."""
    program = shutil.which("bwrap")
    if program is None:
        text = "bubblewrap is missing: no agent step starts without it"
        return Finding(part="bubblewrap", well=False, text=text, remedy="apt-get install bubblewrap")
    argv = [program, "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "true"]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=BWRAP_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        why = type(error).__name__
    else:
        if done.returncode == 0:
            return Finding(part="bubblewrap", well=True, text="keeps the loop of an agent apart")
        why = done.stderr.decode("utf-8", "replace").strip()[:200] or f"exit code {done.returncode}"
    remedy = "allow this user to make namespaces (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces)"
    return Finding(part="bubblewrap", well=False, text=f"bubblewrap does not work here: {why}", remedy=remedy)
