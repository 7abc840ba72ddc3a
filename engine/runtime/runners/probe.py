"""The probe runner: one command on a target, by ssh as the verifier, from a VM of its own. For `command` gates.

ssh exits 255 when it fails itself, and passes the command's exit code on otherwise (ssh(1), EXIT STATUS): whoever reads
the result must take 255 for "could not be run".
"""

from __future__ import annotations

import shlex

from engine.domain.directory import Site
from engine.domain.ports import Reach, SecretValue, VmTask
from engine.domain.runbook import Target
from engine.runtime.runners import ssh

IMAGE = "step"
MAX_OUTPUT = 256 * 1024


class SshProbeRunner:
    """Implements `runners.ProbeRunner`."""

    def task(
        self,
        *,
        task_id: str,
        run_id: str,
        argv: tuple[str, ...],
        timeout_s: float,
        target: Target,
        site: Site,
        reaches: tuple[Reach, ...],
        secrets: tuple[SecretValue, ...],
    ) -> VmTask:
        """See `runners.ProbeRunner.task`. Raises BadInput when the site has no host key."""
        return VmTask(
            id=task_id,
            run_id=run_id,
            image=IMAGE,
            argv=("ssh", ssh.ALIAS, "--", shlex.join(argv)),
            timeout_s=timeout_s,
            files=ssh.files(target, site, target.verifier),
            secrets=ssh.with_final_newline(secrets, target.verifier.key),
            reaches=reaches,
            output_limit=MAX_OUTPUT,
        )
