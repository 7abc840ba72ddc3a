"""Policies compiled from reviewed runbooks. Pure: `admin` applies them, `broker` holds every token against them.

A policy's name and text are a function of (runbook name, declared secrets) alone, so legs that declare the same secrets
(a rehearsal, its rollback, the production step) share one. The hash in the name covers every word of the declaration:
after an edit that no administrator applied there is no such policy, and the broker's preflight refuses.

Served now: engine `kv` (version 2), `deliver: file`. Anything else is refused by name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from engine.domain.errors import Refused
from engine.domain.runbook import Runbook, ScriptStep, SecretRef

PREFIX = "op-s-"
""" Names of step policies begin so: the role op-step mints nothing else. """

_ENGINES = ("kv",)
_DELIVERIES = ("file",)
_PATH = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+")
""" No `+`, `*` (wildcards in a policy), no quotes or braces, no empty, `.` or `..` segment. """
_OWN = frozenset({"auth", "sys", "identity", "cubbyhole"})
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_OTHER = re.compile(r"[^a-z0-9-]+")
_CANARY = "op-canary-never-granted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One compiled policy: `paths` are full API paths, each readable and nothing else."""

    name: str
    text: str
    paths: tuple[str, ...]

    @property
    def canaries(self) -> tuple[str, ...]:
        """Paths that no step token may reach: its secrets' siblings and metadata, minting, policies, mounts."""
        siblings = {path.rpartition("/")[0] + "/" + _CANARY for path in self.paths}
        metadata = {path.replace("/data/", "/metadata/", 1) for path in self.paths}
        own = {"auth/token/create", "auth/token/create/op-step", "sys/mounts", f"sys/policies/acl/{self.name}"}
        return tuple(sorted((siblings | metadata | own) - set(self.paths)))


def compile_policy(runbook: str, refs: Iterable[SecretRef]) -> Policy:
    """The policy of these declared secrets; raises Refused for what is not served or not safe to put into a policy."""
    declared = sorted(refs, key=lambda ref: ref.name)
    for ref in declared:
        _check(ref)
    names = [ref.name for ref in declared]
    if len(set(names)) != len(names):
        raise Refused(f"runbook {runbook!r} declares a secret name twice", "give each secret of a grant its own name")
    paths = tuple(sorted({ref.path for ref in declared}))
    lines = [f"# Signalbox compiled this from runbook {runbook.encode('unicode_escape').decode()}. Do not edit."]
    lines += [f"# {ref.name}: {ref.engine} {ref.path} [{' '.join(ref.fields)}] as {ref.deliver}" for ref in declared]
    lines += [f'path "{path}" {{ capabilities = ["read"] }}' for path in paths]
    text = "\n".join(lines) + "\n"
    return Policy(name=_stem(runbook) + hashlib.sha256(text.encode()).hexdigest()[:10], text=text, paths=paths)


def policies_of(runbook: Runbook) -> tuple[Policy, ...]:
    """Every policy that a run of this runbook needs: one per distinct set of secrets of its steps and verifiers."""
    grants = [step.grant for step in runbook.steps if isinstance(step, ScriptStep)]
    grants += [target.verifier_grant for target in runbook.targets.values()]
    grants += [target.database.grant for target in runbook.targets.values() if target.database]
    found = [compile_policy(runbook.name, grant.secrets) for grant in grants if grant.secrets]
    return tuple(sorted({policy.name: policy for policy in found}.values(), key=lambda policy: policy.name))


def belongs_to(name: str, runbook: str) -> bool:
    """Whether a policy of this name was compiled from (some edition of) this runbook."""
    return re.fullmatch(re.escape(_stem(runbook)) + "[0-9a-f]{10}", name) is not None


def _stem(runbook: str) -> str:
    # Vault folds policy names to lower case; two runbooks that end up with one stem still differ in their hashes
    return f"{PREFIX}{_OTHER.sub('-', runbook.lower())[:64]}-"


def _check(ref: SecretRef) -> None:
    if ref.engine not in _ENGINES:
        raise Refused(
            f"secret {ref.name!r}: engine {ref.engine!r} is not supported yet", f"supported: {', '.join(_ENGINES)}"
        )
    if ref.deliver not in _DELIVERIES:
        raise Refused(
            f"secret {ref.name!r}: deliver {ref.deliver!r} is not supported yet", f"supported: {', '.join(_DELIVERIES)}"
        )
    if not _NAME.fullmatch(ref.name):
        raise Refused(f"{ref.name!r} is no name for a secret", "use letters, digits, `_`, `-` and `.`")
    if not ref.fields or not all(_NAME.fullmatch(field) for field in ref.fields):
        raise Refused(f"secret {ref.name!r} lists no usable fields", "list the fields that the step needs: [value]")
    check_path(ref.path)


def check_path(path: str) -> None:
    """A full API path of a kv version 2 engine that is safe to put into a policy; raises Refused."""
    segments = path.split("/")
    if not _PATH.fullmatch(path) or segments[0] in _OWN or "data" not in segments[1:-1]:
        raise Refused(
            f"{path!r} is no path of a kv version 2 engine",
            "write the literal API path, such as kv/data/checkout/staging/deploy-key",
        )
