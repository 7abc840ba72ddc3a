"""The terraform runner: a terraform step is a script step whose script is ours (`inside`). Implements `runners.Runner`.

The artefact of a plan: `plan.tfplan` (Terraform's own file, what is applied), `plan.json` (what it would change, for
policies: `engine.runtime.runners.terraform.changes`, with the run's inputs), `made_for.json` (target, variables and
backend, filled in), and `change.json`: configuration, lock file, variables and the shape of the change, which are the
same on every target. The digest of `change.json` is what was tested; that of all files what is approved and applied.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from engine.domain import archive, digest, template
from engine.domain.errors import BadInput
from engine.domain.journey import Role
from engine.domain.ports import FileIn, SecretValue, TaskResult, VmTask
from engine.domain.runbook import ScriptStep
from engine.domain.runners import Conclusion, Order
from engine.runtime.runners import script
from engine.runtime.runners.terraform import changes

HERE = Path(__file__).parent
FOLDER = f"{script.HOME}/terraform"
PLAN, DOCUMENT, MADE_FOR, CHANGE = "plan.tfplan", "plan.json", "made_for.json", "change.json"
SHOWN = "shown.json"
MAX_SHOWN = 8 << 20
_BEFORE_NO_TEXT = re.compile(r'(?<!\\)": (?=null|true|false|[-0-9])')
VARIABLE, BACKEND = "-var=", "-backend-config="


class MadeFor(BaseModel):
    """For which target a plan was made, and with what. It comes out of an artefact of ours."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    target: str
    host: str
    config: str
    variables: dict[str, str]
    backend: dict[str, str]


@dataclass(frozen=True, slots=True)
class Planned:
    """An artefact of a plan step, read."""

    made_for: MadeFor
    document: dict[str, Any]
    change: bytes

    @classmethod
    def of(cls, artefact: bytes) -> Planned:
        """Raises BadInput for what no plan step made."""
        files = archive.unpack(artefact)
        try:
            document = json.loads(files[DOCUMENT])
            made_for = MadeFor.model_validate_json(files[MADE_FOR])
            if not isinstance(document, dict) or not files[PLAN]:
                raise KeyError(PLAN)
            return cls(made_for=made_for, document=document, change=files[CHANGE])
        except (KeyError, ValueError, RecursionError):
            raise BadInput("the artefact was made by no plan step", "name a plan step in `uses`") from None


class TerraformRunner:
    """Plans and applies. Change `version` whenever a configuration would be treated in another way."""

    version = "terraform/1"

    def __init__(self) -> None:
        self._script = script.ScriptRunner()

    def task(self, order: Order, secrets: tuple[SecretValue, ...]) -> VmTask:
        """See `runners.Runner.task`. Raises BadInput for a plan that was made for something else than is ordered."""
        step = _step(order)
        job = _plan_job(order) if step.produces else _apply_job(order)
        job |= {"config": _config(step), "env": dict(step.env)}
        mine = [
            FileIn(path=f"{FOLDER}/inside.py", content=(HERE / "inside.py").read_bytes()),
            FileIn(
                path=f"{FOLDER}/engine/runtime/runners/terraform/changes.py",
                content=(HERE / "changes.py").read_bytes(),
            ),
            FileIn(path=f"{FOLDER}/job.json", content=json.dumps(job, sort_keys=True).encode()),
        ]
        task = self._script.task(order, secrets)
        return replace(task, argv=("python3", f"{FOLDER}/inside.py"), files=(*task.files, *mine))

    def conclude(self, order: Order, result: TaskResult) -> Conclusion:
        """See `runners.Runner.conclude`. A plan's artefact and output are worked out here, from its own words."""
        made = self._script.conclude(replace(order, leg=replace(order.leg, step=_silent(order))), result)
        if not made.ok:
            return replace(made, reason=made.reason.replace("the script", "terraform", 1))
        if not _step(order).produces:
            return made
        try:
            document = _document(result.files)
            artefact = archive.pack(_artefact(order, document, result.files[PLAN]))
        except (BadInput, ValueError, RecursionError) as error:
            return Conclusion(ok=False, reason=f"no plan came of it: {error}"[:500])
        return Conclusion(ok=True, reason="", output=_summary(document), artefact=artefact)

    def content(self, step: ScriptStep, artefact: bytes) -> str:  # noqa: ARG002 - the port has it
        """See `runners.Runner.content`: what a plan would change, without where."""
        return digest.of_bytes(Planned.of(artefact).change)

    def preview(self, step: ScriptStep, artefact: bytes) -> str:  # noqa: ARG002 - the port has it
        """See `runners.Runner.preview`: what is about to change, and what changed outside of Terraform."""
        document = Planned.of(artefact).document
        text = "\n".join(_told(document))
        return "".join(char for char in text if char == "\n" or char.isprintable())[: script.MAX_PREVIEW]


def _step(order: Order) -> ScriptStep:
    if not isinstance(order.leg.step, ScriptStep) or order.target is None:
        raise BadInput(f"leg {order.leg.id} is no terraform step", "this is a defect of the engine: report it")
    return order.leg.step


def _silent(order: Order) -> ScriptStep:
    """The step as one that prints no output: it is worked out from the plan."""
    return replace(_step(order), output=None)


def _config(step: ScriptStep) -> str:
    return step.script.file.rpartition("/")[0]


def _given(args: tuple[str, ...], flag: str) -> dict[str, str]:
    return dict(arg.removeprefix(flag).split("=", 1) for arg in args if arg.startswith(flag))


def _facts(order: Order) -> dict[str, str]:
    assert order.target is not None  # noqa: S101 - `_step` looked
    return {"name": order.target.name, "host": order.target.host}


def _plan_job(order: Order) -> dict[str, Any]:
    return {
        "action": "plan",
        "variables": _given(order.args, VARIABLE),
        "backend": _given(order.args, BACKEND),
    }


def _apply_job(order: Order) -> dict[str, Any]:
    step, target = _step(order), _facts(order)
    if order.artefact is None:
        raise BadInput(f"step {step.id} has no plan", "name a plan step in `uses`")
    planned = Planned.of(order.artefact)
    made_for = planned.made_for
    if (made_for.target, made_for.host, made_for.config) != (target["name"], target["host"], _config(step)):
        raise BadInput(
            f"step {step.id}: its plan was made for {made_for.target}, with {made_for.config}",
            "plan for the target that is changed",
        )
    again = step.rehearse and order.leg.role is Role.FORWARD
    return {
        "action": "undo" if order.leg.role is Role.ROLLBACK else "again" if again else "apply",
        "target": target,
        "reviewed": {name: value for name, value in planned.document.items() if name != "inputs"},
        "variables": made_for.variables,
        "before": made_for.variables | _given(order.args, VARIABLE),
        "backend": made_for.backend,
    }


def _document(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Raises BadInput, ValueError."""
    if set(files) != {PLAN, SHOWN} or not files[PLAN]:
        raise BadInput("the VM did not leave a plan and what it says")
    if len(files[SHOWN]) > MAX_SHOWN:
        raise BadInput(f"the plan says more than {MAX_SHOWN >> 20} MiB", "plan fewer resources at once")
    document = changes.reduced(json.loads(files[SHOWN]))
    digest.of_value(document)  # 1e999 and half a character are read, but cannot be kept as evidence
    return document


def _artefact(order: Order, document: Mapping[str, Any], plan: bytes) -> dict[str, bytes]:
    step, target = _step(order), _facts(order)
    config, files = _config(step), order.snapshot.files
    made_for = MadeFor(
        target=target["name"],
        host=target["host"],
        config=config,
        variables=_given(order.args, VARIABLE),
        backend=_given(order.args, BACKEND),
    )
    raw = order.leg.script.args if order.leg.script else ()
    keep = frozenset({"target"})
    neutral = [template.fill(arg, {"inputs": order.inputs}, keep=keep) for arg in raw]
    change = {
        "configuration": {path: digest.of_bytes(data) for path, data in files.items() if path.startswith(f"{config}/")},
        "terraform": document["terraform_version"],
        "arguments": neutral,
        "changes": changes.shape(document, target),
        "outputs": sorted(document["output_changes"]),
    }
    return {
        PLAN: plan,
        DOCUMENT: _text({**document, "inputs": dict(order.inputs)}),
        MADE_FOR: _text(made_for.model_dump()),
        CHANGE: _text(change),
    }


def _text(value: object) -> bytes:
    """As JSON. What is no text stands on a line of its own: `"password": null` is not to be taken for a secret."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, indent=1)
    return (_BEFORE_NO_TEXT.sub('":\n', text) + "\n").encode()


def _summary(document: Mapping[str, Any]) -> dict[str, Any]:
    actions = [tuple(row["actions"]) for row in document["resource_changes"]]
    return {
        "add": actions.count(("create",)),
        "change": actions.count(("update",)),
        "destroy": actions.count(("delete",)),
        "replace": sum(len(one) > 1 for one in actions),
        "drift": [row["address"] for row in document["resource_drift"]][:50],
    }


def _told(document: Mapping[str, Any]) -> Iterator[str]:
    found = _summary(document)
    yield ", ".join(f"{found[name]} to {name}" for name in ("add", "change", "destroy", "replace"))
    yield from changes.lines(document["resource_changes"])
    if document["resource_drift"]:
        yield "changed outside of Terraform:"
        yield from changes.lines(document["resource_drift"])
