"""Is the Vault fit for Signalbox? `signalbox doctor` shows the findings; `broker` uses the same rule for each token.

Everything is tried for real with the bot's own rights: login, a run token, a step token without policy, their death.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.domain.errors import Refused, SignalboxError, Unavailable
from engine.domain.ports import Clock
from engine.secrets.bot import Bot
from engine.secrets.connection import VaultConnection
from engine.secrets.setup import RUN_TTL_S
from engine.secrets.vault import Token, Vault

_CLOCK_TOLERANCE_S = 2
_TRIAL_S = 60
_TRIAL_POLICY = "op-s-doctor-0000000000"
_SETUP = "let an administrator run the script that `signalbox secrets setup` prints"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at; `remedy` is for a person, when it is not well."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def expect(token: Token, *, policies: set[str], orphan: bool, lasts_s: int, uses: int) -> None:
    """The token is as its role must make it; raises Refused. A wrong role would make tokens that outlive their run."""
    seen = {
        "policies": token.policies == policies,
        "orphan": token.orphan is orphan,
        "ttl": 0 < token.lasts_s <= lasts_s,
        "num_uses": token.uses == uses,
        "renewable": not token.renewable,
        "type": token.type == "service",
    }
    wrong = [name for name, right in seen.items() if not right]
    if wrong:
        raise Refused(
            f"Vault minted a token with unexpected {', '.join(wrong)}: {sorted(token.policies)}, {token.lasts_s} s",
            _SETUP,
        )


def examine(connection: VaultConnection, clock: Clock) -> tuple[Finding, ...]:
    """From the address to a trial token; ends at the first thing that is not well, since the rest hangs on it."""
    bot = Bot(connection, clock)
    findings: list[Finding] = []
    with Vault(connection, clock) as vault:
        looks: tuple[tuple[str, Callable[[], str]], ...] = (
            ("vault answers", lambda: answers(vault)),
            ("vault's clock", lambda: _clock(vault, clock)),
            ("vault login", lambda: f"as role {connection.role_id}, for {bot.login(vault).lasts_s} s"),
            ("vault roles", lambda: _trial(vault, bot)),
            ("vault logout", lambda: _logout(vault, bot)),
        )
        for name, look in looks:
            try:
                findings.append(Finding(name=name, ok=True, detail=look()))
            except SignalboxError as error:
                findings.append(Finding(name=name, ok=False, detail=str(error), remedy=error.remedy))
                break
    return tuple(findings)


def answers(vault: Vault) -> str:
    """Where it is and which version; raises Unavailable when it is down or sealed."""
    health = vault.health()
    if not health.get("initialized") or health.get("sealed"):
        raise Unavailable("Vault is sealed or not initialised", "initialise or unseal it, then try again")
    return f"{vault.connection.shown}, version {health.get('version', 'unknown')}"


def _clock(vault: Vault, clock: Clock) -> str:
    theirs = vault.health().get("server_time_utc")
    if not isinstance(theirs, int):
        raise Unavailable("Vault does not tell its time", "check that this address is a Vault")
    apart = abs(clock.now().timestamp() - theirs)
    if apart > _CLOCK_TOLERANCE_S:
        raise Refused(f"Vault's clock and ours are {apart:.0f} s apart", "let both machines keep time by NTP")
    return f"less than {_CLOCK_TOLERANCE_S} s from ours"


def _trial(vault: Vault, bot: Bot) -> str:
    """Mint a run token and, with it, a step token of a policy that does not exist; check both; kill the tree."""
    body = {"no_default_policy": True, "renewable": False, "ttl": f"{_TRIAL_S}s", "display_name": "op-doctor"}
    run = bot.call(vault, lambda own: vault.mint(own, "op-run", {**body, "policies": ["op-run"]}))
    try:
        expect(run, policies={"op-run"}, orphan=True, lasts_s=min(_TRIAL_S, RUN_TTL_S), uses=0)
        step = vault.mint(run.token, "op-step", {**body, "policies": [_TRIAL_POLICY], "num_uses": 1})
        expect(step, policies={_TRIAL_POLICY}, orphan=False, lasts_s=_TRIAL_S, uses=1)
    finally:
        bot.revoke(vault, run.accessor)
    if bot.alive(vault, step.accessor):
        raise Refused("a step token outlived its run token", _SETUP)
    return "op-run and op-step mint as they should, and what they mint dies together"


def _logout(vault: Vault, bot: Bot) -> str:
    bot.log_out(vault)
    return "nothing of this check is left alive"
