"""The script runner: a file of the runbook's folder, run in a VM. What the script finds there:

/step/runbook/   every file of the runbook's folder          /step/inputs.json   the inputs (also SIGNALBOX_INPUT_NAME)
/step/artefact/  the files of the artefact it uses           /step/claims.json   what earlier steps printed, by step id
/step/out/       where it leaves the artefact it produces    /run/secrets/NAME   its declared secrets
$SIGNALBOX_ATTEMPT and, with an artefact, $SIGNALBOX_ARTEFACT_DIGEST say what this is.
A step that changes a target finds no claims: they are on no digest, and what it applies is its artefact.
`ssh target -- command` enters the target, when the step declares a login.
"""

from __future__ import annotations

import json
from typing import Any, assert_never

from engine.domain import archive, digest
from engine.domain.errors import BadInput
from engine.domain.gate import Json
from engine.domain.journey import Role
from engine.domain.ports import Ending, FileIn, SecretValue, TaskResult, VmTask
from engine.domain.runbook import Access, OutputRule, Script, ScriptStep
from engine.domain.runners import Conclusion, Order
from engine.runtime.runners import ssh

HOME = "/step"
OUT = f"{HOME}/out"
MAX_OUTPUT_LINE = 64 * 1024
MAX_OUTPUT_NESTED = 32
""" One thing in another in another: whoever shows or keeps it walks into it, and a deeper one would break them. """
MAX_PREVIEW = 2500


class ScriptRunner:
    """Implements `runners.Runner`. Change `version` whenever a script would find something else in its VM.

    `who`: how a conclusion names what worked.
    """

    version = "script/2"

    def __init__(self, who: str = "the script") -> None:
        self._who = who

    def task(self, order: Order, secrets: tuple[SecretValue, ...]) -> VmTask:
        """See `runners.Runner.task`. Raises BadInput for an order that cannot be carried out as written."""
        step, script = _parts(order)
        if script.file not in order.snapshot.files:
            raise BadInput(f"step {step.id}: no file {script.file!r} in the runbook's folder", "add it, or mend `file`")
        files = (*_runbook(order, script), *_given(order), *_artefact(order))
        if step.login is not None and order.target is not None:
            files += ssh.files(order.target, order.site, step.login)
            secrets = ssh.with_final_newline(secrets, step.login.key)
        return VmTask(
            id=order.attempt_id,
            run_id=order.run_id,
            image=step.image,
            argv=(f"{HOME}/runbook/{script.file}", *order.args),
            timeout_s=step.timeout_s,
            memory_mb=step.memory_mb,
            vcpus=step.limits.vcpus,
            cpu_percent=step.limits.cpu_percent,
            disk_mb=step.limits.disk_mb,
            processes=step.limits.processes,
            output_limit=step.limits.output_kb << 10,
            egress_limit=step.limits.egress_mb << 20,
            env=_environment(order),
            files=files,
            secrets=secrets,
            reaches=order.reaches,
            outlives_worker=step.access is Access.WRITE,
            collect=OUT if _produces(order) else None,
            collect_limit=archive.MAX_BYTES,
        )

    def conclude(self, order: Order, result: TaskResult) -> Conclusion:
        """See `runners.Runner.conclude`."""
        step, _ = _parts(order)
        if result.ending is not Ending.EXITED or result.code != 0:
            return Conclusion(ok=False, reason=_why(result, self._who))
        if result.reason:
            return Conclusion(ok=False, reason=result.reason)
        try:
            output = _output(step, result, self._who) if order.leg.role is not Role.ROLLBACK else None
            artefact = _packed(result, self._who) if _produces(order) else None
        except BadInput as error:
            return Conclusion(ok=False, reason=str(error))
        return Conclusion(ok=True, reason="", output=output, artefact=artefact)

    def content(self, step: ScriptStep, artefact: bytes) -> str:  # noqa: ARG002 - the port has it
        """See `runners.Runner.content`: every byte counts."""
        return digest.of_bytes(artefact)

    def preview(self, step: ScriptStep, artefact: bytes) -> str:  # noqa: ARG002 - the port has it
        """See `runners.Runner.preview`. Only printable text: it is shown to the person who approves."""
        files = archive.unpack(artefact)
        text = "\n".join(f"--- {path}\n{content.decode('utf-8', 'replace')}" for path, content in sorted(files.items()))
        return "".join(char for char in text if char == "\n" or char.isprintable())[:MAX_PREVIEW]


def _parts(order: Order) -> tuple[ScriptStep, Script]:
    step, script = order.leg.step, order.leg.script
    if not isinstance(step, ScriptStep) or script is None:
        raise BadInput(f"leg {order.leg.id} is no script step", "this is a defect of the engine: report it")
    return step, script


def _produces(order: Order) -> bool:
    step, _ = _parts(order)
    return step.produces is not None and order.leg.role is not Role.ROLLBACK


def _runbook(order: Order, script: Script) -> list[FileIn]:
    return [
        FileIn(
            path=f"{HOME}/runbook/{path}",
            content=content,
            mode=0o755 if path == script.file or content.startswith(b"#!") else 0o644,
        )
        for path, content in sorted(order.snapshot.files.items())
    ]


def _given(order: Order) -> list[FileIn]:
    def document(name: str, value: object) -> FileIn:
        return FileIn(path=f"{HOME}/{name}.json", content=json.dumps(value, sort_keys=True).encode())

    return [document("inputs", dict(order.inputs)), document("claims", dict(order.claims))]


def _artefact(order: Order) -> list[FileIn]:
    if order.artefact is None:
        return []
    files = archive.unpack(order.artefact)
    return [FileIn(path=f"{HOME}/artefact/{path}", content=content) for path, content in sorted(files.items())]


def _environment(order: Order) -> dict[str, str]:
    env = {f"SIGNALBOX_INPUT_{name.upper()}": value for name, value in order.inputs.items()}
    env["SIGNALBOX_ATTEMPT"] = order.attempt_id
    if order.artefact is not None:
        env["SIGNALBOX_ARTEFACT_DIGEST"] = digest.of_bytes(order.artefact)
    return env


def _why(result: TaskResult, who: str) -> str:
    match result.ending:
        case Ending.EXITED:
            met = f" ({result.reason})" if result.reason else ""
            return f"{who} exited with code {result.code}{met}{_last_words(result)}"
        case Ending.SIGNALLED:
            return f"{who} was killed ({result.reason}){_last_words(result)}"
        case Ending.TIMED_OUT:
            return f"{who} did not end in time ({result.reason})"
        case Ending.CANCELLED:
            return "cancelled"
        case Ending.VM_LOST:
            return f"the VM was lost: {result.reason}"
        case Ending.NOT_BEGUN:
            return f"{who} was not started: {result.reason}"
        case unknown:
            assert_never(unknown)


def _last_words(result: TaskResult) -> str:
    lines = result.stderr.strip().splitlines()
    return f": {lines[-1][:300]}" if lines else ""


def _packed(result: TaskResult, who: str) -> bytes:
    if not result.files:
        raise BadInput(f"{who} left no file in {OUT}")
    return archive.pack(result.files)


def _output(step: ScriptStep, result: TaskResult, who: str) -> dict[str, Json] | None:
    """The JSON object in the last line of stdout, if one is asked for; raises BadInput with what is wrong with it."""
    if step.output is None:
        return None
    lines = [line for line in result.stdout.splitlines() if line.strip()]
    if result.truncated:
        raise BadInput(f"{who} printed more than it may: its limit is {step.limits.output_kb} kB (output_kb)")
    if not lines:
        raise BadInput(f"{who} printed nothing")
    if len(lines[-1].encode()) > MAX_OUTPUT_LINE:
        raise BadInput(f"the last line is longer than {MAX_OUTPUT_LINE} bytes")
    try:
        value = json.loads(lines[-1], parse_constant=_no_constant)
        digest.of_value(value)  # 1e999 and half a character are read, but cannot be kept as evidence
    except (ValueError, RecursionError):
        raise BadInput("the last line is not JSON") from None
    if not isinstance(value, dict):
        raise BadInput("the last line is JSON but not an object")
    if _nested(value) > MAX_OUTPUT_NESTED:
        raise BadInput(f"the last line is nested more than {MAX_OUTPUT_NESTED} deep")
    _conform(step.output, value)
    return value


def _nested(value: Json) -> int:
    """How many lists and objects lie in one another."""
    depth, layer = 0, [value]
    while layer := [one for one in layer if isinstance(one, dict | list)]:
        depth += 1
        layer = [inner for one in layer for inner in (one.values() if isinstance(one, dict) else one)]
    return depth


def _conform(rule: OutputRule, value: dict[str, Any]) -> None:
    missing = [name for name in rule.required if name not in value]
    if missing:
        raise BadInput(f"the output lacks {', '.join(missing)}")
    for name, allowed in rule.enums.items():
        if name in value and (not isinstance(value[name], str) or value[name] not in allowed):
            raise BadInput(f"the output's {name} is none of {', '.join(allowed)}")


def _no_constant(name: str) -> None:
    raise ValueError(name)
