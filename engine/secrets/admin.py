"""What an administrator does: apply compiled policies, write secrets, see what is alive. Never the bot's right.

Called by `signalbox secrets plan [--apply]`, `signalbox secrets put` and the demo. The embedded OpenBao's administrator
logs in with the password of its home folder; for an external Vault a person gives a token (whose policy may be
`setup.APPLY_POLICY`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from engine.domain.errors import BadInput
from engine.domain.ports import Clock
from engine.domain.runbook import Runbook
from engine.secrets.connection import VaultConnection
from engine.secrets.encodings import SHORTEST
from engine.secrets.policy import PREFIX, Policy, belongs_to, check_path, policies_of
from engine.secrets.vault import Denied, Missing, Rejected, Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyPlan:
    """What `apply` would do. `missing`: to write; `stale`: older editions of these runbooks, to delete.

    `strangers` were compiled from runbooks that are not here; they are left alone (another Signalbox may use them).
    """

    missing: tuple[Policy, ...]
    stale: tuple[str, ...]
    in_force: tuple[Policy, ...]
    strangers: tuple[str, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """For a person to review: the whole text of what is new, the names of the rest."""
        new = [f"+ {line}" for policy in self.missing for line in (policy.name, *policy.text.splitlines())]
        return (*new, *(f"- {name}" for name in self.stale), *(f"  {policy.name}" for policy in self.in_force))


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveToken:
    """A token that is alive in Vault; `meta` as we minted it (op_run, op_step, op_attempt, op_runbook)."""

    accessor: str
    policies: tuple[str, ...]
    meta: Mapping[str, str]


class Administrator:
    """An administrator's session, in a `with` statement. A login by password is ended with it; a given token is not."""

    def __init__(self, connection: VaultConnection, clock: Clock, *, token: str = "", password: str = "") -> None:
        if bool(token) == bool(password):
            raise BadInput("an administrator needs a token or a password", "log in to Vault and give its token")
        self._vault = Vault(connection, clock)
        self._token = token
        self._password = password
        self._accessor = ""

    def __enter__(self) -> Self:
        if self._password:
            login = self._vault.login_password("admin", self._password)
            self._token, self._accessor = login.token, login.accessor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._vault:
            if self._accessor:
                self._vault.revoke_self(self._token)

    def plan(self, runbooks: Collection[Runbook]) -> PolicyPlan:
        """Compare the policies that these runbooks need with what is in Vault. Changes nothing."""
        wanted = {policy.name: policy for runbook in runbooks for policy in policies_of(runbook)}
        there = {name for name in self._vault.policy_names(self._token) if name.startswith(PREFIX)}
        right = {name for name in wanted.keys() & there if self._is(wanted[name])}
        others = there - wanted.keys()
        stale = {name for name in others if any(belongs_to(name, runbook.name) for runbook in runbooks)}
        return PolicyPlan(
            missing=tuple(wanted[name] for name in sorted(wanted.keys() - right)),
            stale=tuple(sorted(stale)),
            in_force=tuple(wanted[name] for name in sorted(right)),
            strangers=tuple(sorted(others - stale)),
        )

    def apply(self, plan: PolicyPlan) -> None:
        """Carry out a plan that a person has reviewed."""
        for policy in plan.missing:
            self._vault.write(self._token, f"sys/policies/acl/{policy.name}", {"policy": policy.text})
        for name in plan.stale:
            self._vault.delete_policy(self._token, name)

    def put(self, path: str, fields: Mapping[str, str]) -> None:
        """Write a secret as a new version; raises BadInput for a path or value that no step could use."""
        check_path(path)
        if not fields:
            raise BadInput("a secret needs at least one field", "write NAME=VALUE")
        short = [name for name, value in fields.items() if len(value.strip()) < SHORTEST]
        if short:
            raise BadInput(
                f"{path}: {', '.join(short)} is shorter than {SHORTEST} characters and could not be masked",
                "use a longer value",
            )
        self._vault.write(self._token, path, {"data": dict(fields)})

    def live_accessors(self) -> tuple[LiveToken, ...]:
        """Every token alive in this Vault except the administrator's own."""
        found = (self._live(accessor) for accessor in self._vault.accessors(self._token) if accessor != self._accessor)
        return tuple(token for token in found if token is not None)

    def _live(self, accessor: str) -> LiveToken | None:
        try:
            data = self._vault.lookup(self._token, accessor)
        except (Denied, Missing, Rejected):
            return None  # it ended between the list and the look
        return LiveToken(
            accessor=accessor,
            policies=tuple(data.get("policies") or ()),
            meta=dict(data.get("meta") or {}),
        )

    def _is(self, policy: Policy) -> bool:
        try:
            return self._vault.policy(self._token, policy.name).strip() == policy.text.strip()
        except Missing:
            return False
