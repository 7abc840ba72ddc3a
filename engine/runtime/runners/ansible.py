"""The Ansible runner: a playbook of the runbook's folder, from a VM, on the step's target.

First check mode with diffs, then (with `access: write`) the run, then a rerun that must change nothing. Inventory and
connection are made here, of the step's target and login, and stand above whatever a playbook says: `hosts: target`
is that one host, by the ssh configuration of `ssh`, whose host key is known. What a playbook finds besides:

{{ input_NAME }}   the inputs, from a JSON file          /step/artefact/  the files of the artefact it uses

An artefact is the playbook's folder itself, so that whoever approves it sees it: byte for byte the one that lint read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from engine.domain import archive
from engine.domain.errors import BadInput
from engine.domain.gate import Json
from engine.domain.ports import Ending, FileIn, SecretValue, TaskResult, VmTask
from engine.domain.runbook import Access, Login, Script, ScriptStep, Target
from engine.domain.runners import Conclusion, Order
from engine.runtime.runners import ssh
from engine.runtime.runners.script import HOME, ScriptRunner

FOLDER = f"{HOME}/ansible"
SCRATCH = f"{FOLDER}/scratch"
GUEST = Path(__file__).parents[1] / "guest"
OURS = {"play.py": "play.py", "callback/signalbox_events.py": "signalbox_events.py"}
READS, WRITES = ("check",), ("check", "run", "rerun")

CONFIGURATION = f"""\
[defaults]
callback_plugins = {FOLDER}/callback
stdout_callback = signalbox_events
local_tmp = {SCRATCH}
interpreter_python = /usr/bin/python3
host_key_checking = True
retry_files_enabled = False
deprecation_warnings = False
nocolor = True
forks = 1
timeout = 30
[inventory]
enable_plugins = yaml
unparsed_is_failed = True
[ssh_connection]
pipelining = True
ssh_args = -o ControlMaster=auto -o ControlPersist=60s
"""


class AnsibleRunner:
    """Implements `runners.Runner`. Change `version` whenever a playbook would find something else in its VM."""

    version = "ansible/1"
    _script = ScriptRunner()

    def task(self, order: Order, secrets: tuple[SecretValue, ...]) -> VmTask:
        """See `runners.Runner.task`. Raises BadInput for an order that cannot be carried out as written."""
        step, script = order.leg.step, order.leg.script
        if not isinstance(step, ScriptStep) or script is None or step.login is None or order.target is None:
            raise BadInput(
                f"leg {order.leg.id} has no target to log in to", "an ansible step needs `target` and `login`"
            )
        task = self._script.task(order, secrets)
        _same_as_in_the_folder(order, step, script)
        phases = WRITES if step.access is Access.WRITE else READS
        return replace(
            task,
            argv=("/usr/bin/python3", f"{FOLDER}/play.py", f"{HOME}/runbook/{script.file}", *phases),
            files=(*task.files, *_ours(order.inputs, order.target, step.login)),
        )

    def conclude(self, order: Order, result: TaskResult) -> Conclusion:
        """See `runners.Runner.conclude`. The report is kept as evidence also of what did not work."""
        conclusion = self._script.conclude(order, result)
        said = _report(result)
        if conclusion.ok or said is None or result.ending is not Ending.EXITED:
            return conclusion
        why = str(said.get("why", ""))[:1000]
        return replace(
            conclusion, output=said, reason=f"the playbook did not work: {why}" if why else conclusion.reason
        )

    def content(self, step: ScriptStep, artefact: bytes) -> str:
        """See `runners.Runner.content`."""
        return self._script.content(step, artefact)

    def preview(self, step: ScriptStep, artefact: bytes) -> str:
        """See `runners.Runner.preview`."""
        return self._script.preview(step, artefact)


def _same_as_in_the_folder(order: Order, step: ScriptStep, script: Script) -> None:
    if order.artefact is None:
        return
    parts = {path.removeprefix(script.folder): data for path, data in step.parts(script, order.snapshot.files).items()}
    found = archive.unpack(order.artefact)
    odd = sorted(path for path in parts.keys() | found.keys() if parts.get(path) != found.get(path))
    if odd:
        raise BadInput(
            f"the artefact is not the playbook's folder: {odd[0]} differs",
            f"let the step that makes it do: cp -R /step/runbook/{script.folder}. /step/out/",
        )


def _ours(inputs: Mapping[str, str], target: Target, login: Login) -> list[FileIn]:
    """What lies beside the playbook: our two programs, the configuration, inventory and variables."""
    hosts: Mapping[str, object] = {"all": {"hosts": {ssh.ALIAS: {}}}}
    texts = {
        "ansible.cfg": CONFIGURATION.encode(),
        "hosts.json": json.dumps(hosts).encode(),
        "vars.json": json.dumps(_variables(inputs, target, login), sort_keys=True).encode(),
        **{place: (GUEST / name).read_bytes() for place, name in OURS.items()},
    }
    return [FileIn(path=f"{FOLDER}/{name}", content=content) for name, content in texts.items()]


def _variables(inputs: Mapping[str, str], target: Target, login: Login) -> Mapping[str, object]:
    """Extra variables, above all others. An input is text and stays text: `!unsafe` is never filled in once more."""
    connection = {
        "ansible_connection": "ssh",
        "ansible_host": ssh.ALIAS,
        "ansible_port": target.port,
        "ansible_user": login.user,
        "ansible_ssh_private_key_file": f"/run/secrets/{login.key}",
        "ansible_ssh_host_key_checking": True,
        "ansible_host_key_checking": True,
        "ansible_ssh_executable": "ssh",
        **{f"ansible_{kind}_args": "" for kind in ("ssh_common", "ssh_extra", "sftp_extra", "scp_extra")},
    }
    return {**{f"input_{name}": {"__ansible_unsafe": value} for name, value in inputs.items()}, **connection}


def _report(result: TaskResult) -> dict[str, Json] | None:
    lines = result.stdout.rstrip().splitlines()
    if result.truncated or not lines:
        return None
    try:
        said = json.loads(lines[-1])
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None
