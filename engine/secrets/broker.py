"""The broker: implements the port `Secrets`. Wired by `engine.wiring`, called by orchestration around each VM.

The bot (AppRole) mints a run token (orphan, role op-run); the run token mints a step token (its child, role op-step)
that carries one compiled policy, lives as long as the step and reads each declared secret once. No token ever leaves
this process. Revoking the run token kills all its children: the kill switch, and what recovery does after a crash.

Order of records: minting - (run token) minted - (step token) minted - read... - revoked | revoke_failed. Each is
committed before the next request, so whatever lives in Vault can be found by an accessor that the journal holds.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from engine.domain import ports
from engine.domain.errors import Refused, SignalboxError, Unavailable
from engine.domain.ports import Clock, SecretJournal, SecretValue
from engine.domain.runbook import SecretRef
from engine.secrets.bot import Bot
from engine.secrets.checkup import Finding, answers, examine, expect
from engine.secrets.connection import VaultConnection
from engine.secrets.policy import Policy, compile_policy
from engine.secrets.redact import Redactor
from engine.secrets.setup import RUN_TTL_S, STEP_TTL_S
from engine.secrets.vault import Denied, Missing, Token, Vault

_GRACE_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class _RunToken:
    token: Token
    ends_at: datetime


@dataclass(slots=True)
class _Run:
    """What is alive of one run in this process. Never dropped (a few bytes): a thread may be about to mint in it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    tokens: tuple[_RunToken, ...] = ()
    grants: set[Grant] = field(default_factory=set)


class Grant:
    """Implements the port `OpenGrant`: the values of one attempt, until `close` has proved its token dead."""

    def __init__(self, broker: Broker, run_id: str, attempt_id: str, accessor: str | None) -> None:
        self.values: tuple[SecretValue, ...] = ()
        self.redactor: ports.Redactor = broker.redactor()
        self.run_id = run_id
        self.attempt_id = attempt_id
        self.accessor = accessor
        self._broker = broker
        self._lock = threading.Lock()

    def close(self) -> None:
        """Revoke the step token and prove it dead. Idempotent; after a Refused it may be called again."""
        with self._lock:
            self.values = ()
            if self.accessor is None:
                return
            try:
                self._broker.bury(self.accessor)
            except Unavailable as error:
                raise Refused(str(error), error.remedy) from None
            self._broker.forget(self)
            self.accessor = None


class Broker:
    """Grants -> short-lived credentials. Thread-safe: one conversation with Vault for each call."""

    def __init__(
        self, connection: VaultConnection, journal: SecretJournal, clock: Clock, redactor: Redactor | None = None
    ) -> None:
        self.connection = connection
        self._journal = journal
        self._clock = clock
        self._redactor = redactor or Redactor()
        self._bot = Bot(connection, clock)
        self._lock = threading.Lock()
        self._runs: dict[str, _Run] = {}
        if connection.secret_id:
            self._redactor.learn("vault-secret-id", connection.secret_id)

    def redactor(self) -> Redactor:
        """Knows every value handed out by this broker, and the patterns."""
        return self._redactor

    # -- one attempt

    def open(
        self, *, runbook: str, run_id: str, leg: str, attempt_id: str, refs: tuple[SecretRef, ...], timeout_s: float
    ) -> Grant:
        """Mint, check the token's reach, read every declared secret.

        Without `refs` nothing is asked of Vault. Raises Unavailable (Vault down; nothing is left alive that the journal
        does not name) or Refused (denied, wider than declared, missing, not maskable), each with a remedy.
        """
        if not refs:
            return Grant(self, run_id, attempt_id, None)
        policy = compile_policy(runbook, refs)
        self._journal.minting(run_id=run_id, attempt_id=attempt_id, policy=policy.name, paths=policy.paths)
        lasts_s = int(min(timeout_s + _GRACE_S, STEP_TTL_S))
        meta = {"op_run": run_id, "op_step": leg, "op_attempt": attempt_id, "op_runbook": runbook}
        body: dict[str, object] = {
            "policies": [policy.name],
            "no_default_policy": True,
            "renewable": False,
            "ttl": f"{lasts_s}s",
            # one more than reads: a token whose last use returns a lease takes the lease down with it
            "num_uses": len(refs) + 1,
            "display_name": f"op-{run_id}-{leg}",
            "meta": meta,
        }
        with Vault(self.connection, self._clock) as vault:
            token = self._mint_step(vault, run_id, attempt_id, body)
            grant = Grant(self, run_id, attempt_id, token.accessor)
            try:
                self._run(run_id).grants.add(grant)
                self._journal.minted(run_id=run_id, attempt_id=attempt_id, kind="step", accessor=token.accessor)
                self._preflight(vault, policy, token, lasts_s, len(refs) + 1)
                grant.values = tuple(self._read(vault, token, grant, ref) for ref in refs)
            except BaseException:  # whatever happened, the token dies first
                _close_quietly(grant)
                raise
        return grant

    def _read(self, vault: Vault, token: Token, grant: Grant, ref: SecretRef) -> SecretValue:
        read = vault.read(token.token, ref.path)
        self._journal.read(
            run_id=grant.run_id,
            attempt_id=grant.attempt_id,
            name=ref.name,
            path=ref.path,
            request_id=read.request_id,
        )
        stored = read.data.get("data")
        values: dict[str, str] = {}
        for name in ref.fields:
            value = stored.get(name) if isinstance(stored, dict) else None
            if not isinstance(value, str):
                raise Missing(
                    f"{ref.path} has no text field {name!r}",
                    f"signalbox secrets put {ref.path} {name}=@FILE, then retry",
                )
            self._redactor.learn(ref.name if len(ref.fields) == 1 else f"{ref.name}.{name}", value)
            values[name] = value
        text = values[ref.fields[0]] if len(ref.fields) == 1 else json.dumps(values, ensure_ascii=False)
        return SecretValue(name=ref.name, value=text)

    # -- minting

    def _mint_step(self, vault: Vault, run_id: str, attempt_id: str, body: dict[str, object]) -> Token:
        parent = self._run_token(vault, run_id, attempt_id)
        try:
            return vault.mint(parent.token.token, "op-step", body)
        except Denied:
            if self._bot.alive(vault, parent.token.accessor):
                raise
        # somebody revoked it in Vault (or it was lost there): a person's Retry begins with a new one
        self._journal.revoked(accessor=parent.token.accessor)
        self._drop_run_token(parent.token.accessor)
        raise Refused(f"the token of run {run_id} was revoked in Vault", "find out who revoked it and why, then retry")

    def _run_token(self, vault: Vault, run_id: str, attempt_id: str) -> _RunToken:
        """The run's token of this process; a new one when there is none that outlives a step."""
        run = self._run(run_id)
        with run.lock:
            enough = self._clock.now() + timedelta(seconds=STEP_TTL_S)
            for known in run.tokens:
                if known.ends_at > enough:
                    return known
            body = {
                "policies": ["op-run"],
                "no_default_policy": True,
                "renewable": False,
                "ttl": f"{RUN_TTL_S}s",
                "display_name": f"op-{run_id}",
                "meta": {"op_run": run_id},
            }
            token = self._bot.call(vault, lambda own: vault.mint(own, "op-run", body))
            ends_at = self._clock.now() + timedelta(seconds=token.lasts_s)
            minted = _RunToken(token=token, ends_at=ends_at)
            with self._lock:
                run.tokens = (*run.tokens, minted)
            try:
                self._journal.minted(run_id=run_id, attempt_id=attempt_id, kind="run", accessor=token.accessor)
                expect(token, policies={"op-run"}, orphan=True, lasts_s=RUN_TTL_S, uses=0)
            except BaseException:  # a token that the journal does not know, or that is not as agreed, must not live
                self.bury(token.accessor)
                raise
            return minted

    def _preflight(self, vault: Vault, policy: Policy, token: Token, lasts_s: int, uses: int) -> None:
        """The token is what was declared, no more and no less; raises Refused."""
        expect(token, policies={policy.name}, orphan=False, lasts_s=lasts_s, uses=uses)
        plan = "let an administrator compare and apply: signalbox secrets plan, then with --apply"
        try:
            applied = self._bot.call(vault, lambda own: vault.policy(own, policy.name))
        except Missing:
            applied = None
        if applied is None:
            raise Refused(f"policy {policy.name} was not applied: nobody approved these secrets for this runbook", plan)
        if applied.strip() != policy.text.strip():
            raise Refused(f"policy {policy.name} in Vault is not what the runbook compiles to", plan)
        paths = [*policy.paths, *policy.canaries]
        reach = self._bot.call(vault, lambda own: vault.capabilities(own, token.accessor, paths))
        for path in policy.paths:
            if reach[path] != ["read"]:
                raise Refused(f"policy {policy.name} gives {reach[path]} on {path}, declared is ['read']", plan)
        for path in policy.canaries:
            if reach[path] != ["deny"]:
                raise Refused(f"a step token can {' and '.join(reach[path])} {path}: too wide", plan)

    # -- the end

    def bury(self, accessor: str) -> None:
        """Revoke a token, prove it dead, record it. Raises Unavailable or Refused (recorded too) when unproved."""
        try:
            with Vault(self.connection, self._clock) as vault:
                self._bot.revoke(vault, accessor)
        except SignalboxError as error:
            failure = error
        else:
            self._journal.revoked(accessor=accessor)
            self._drop_run_token(accessor)
            return
        self._journal.revoke_failed(accessor=accessor, reason=str(failure))
        kind = Unavailable if isinstance(failure, Unavailable) else Refused
        raise kind(
            f"cannot prove that the token with accessor {accessor} is dead: {failure}",
            f"when Vault is back: bao token revoke -accessor {accessor}; it ends by itself at its TTL",
        )

    def forget(self, grant: Grant) -> None:
        """The grant is closed: nothing of it is alive."""
        self._run(grant.run_id).grants.discard(grant)

    def revoke_run(self, run_id: str) -> None:
        """Everything that this process minted for the run dies; raises Refused when that cannot be proved."""
        run = self._run(run_id)
        failures: list[SignalboxError | None] = []
        for minted in run.tokens:  # first: its death takes all its children down, also one just being minted
            try:
                self.bury(minted.token.accessor)
            except SignalboxError as error:
                failures.append(Refused(str(error), error.remedy))
        failures += [_close_quietly(grant) for grant in tuple(run.grants)]
        _raise_first(failures)

    def recover(self, accessors: Collection[str]) -> None:
        """Revoke tokens by their accessors and prove them dead; what is dead already is fine.

        Stops with Unavailable when Vault is down (call again later); raises Refused at the end for what still lives.
        """
        failures: list[SignalboxError | None] = []
        for accessor in accessors:
            try:
                self.bury(accessor)
            except Refused as error:
                failures.append(error)
        _raise_first(failures)

    def reachable(self) -> None:
        """Return quickly when secrets could be had now; raises Unavailable with a remedy."""
        with Vault(self.connection, self._clock) as vault:
            answers(vault)

    def shut_down(self) -> None:
        """At the end of the process: every run's tokens, then the bot's own login. Raises Refused."""
        failures: list[SignalboxError | None] = []
        for run_id in tuple(self._runs):
            try:
                self.revoke_run(run_id)
            except Refused as error:
                failures.append(error)
        try:
            with Vault(self.connection, self._clock) as vault:
                self._bot.log_out(vault)
        except SignalboxError as error:
            failures.append(error)
        _raise_first(failures)

    def check(self) -> tuple[Finding, ...]:
        """For `signalbox doctor`: everything from the address to a trial token. Never raises for what it finds."""
        return examine(self.connection, self._clock)

    def _drop_run_token(self, accessor: str) -> None:
        """It is dead: the next step of its run begins with a new one. (No run token if it is not found.)"""
        with self._lock:
            for run in self._runs.values():
                run.tokens = tuple(kept for kept in run.tokens if kept.token.accessor != accessor)

    def _run(self, run_id: str) -> _Run:
        with self._lock:
            return self._runs.setdefault(run_id, _Run())


def _close_quietly(grant: Grant) -> SignalboxError | None:
    """The failure, if any: it is in the journal already, and the caller has a better error to raise."""
    try:
        grant.close()
    except Refused as error:
        return error
    return None


def _raise_first(failures: Sequence[SignalboxError | None]) -> None:
    for failure in failures:
        if failure is not None:
            raise failure
