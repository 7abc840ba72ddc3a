"""How a Vault or OpenBao must be set up for Signalbox: policies, token roles, the bot's AppRole.

`embedded` applies this at its first start. For an external Vault an administrator runs `script()` once
(`signalbox secrets setup`). Facts: https://openbao.org/api-docs/auth/token/ and .../auth/approle/ .
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

RUN_TTL_S = 4 * 3600
STEP_TTL_S = 900
""" No step token lives longer, whatever the step's timeout: secrets are read at its beginning. """

BOT_POLICY = """\
# Signalbox, op-bot: mints run tokens and looks after what it minted. It reads no secret and writes no policy.
path "auth/token/create/op-run"   { capabilities = ["update"] }
path "auth/token/revoke-accessor" { capabilities = ["update"] }
path "auth/token/lookup-accessor" { capabilities = ["update"] }
path "sys/capabilities-accessor"  { capabilities = ["update"] }
path "sys/leases/revoke"          { capabilities = ["update"] }
path "sys/leases/lookup"          { capabilities = ["update"] }
path "auth/token/lookup-self"     { capabilities = ["read"] }
path "auth/token/renew-self"      { capabilities = ["update"] }
path "sys/policies/acl/op-s-*"    { capabilities = ["read"] }
"""

RUN_POLICY = """\
# Signalbox, op-run: a run's token mints the tokens of its steps, and nothing else.
path "auth/token/create/op-step" { capabilities = ["update"] }
"""

APPLY_POLICY = """\
# Signalbox, op-apply: for the person who runs `signalbox secrets plan --apply`, instead of a root token.
path "sys/policies/acl"           { capabilities = ["list"] }
path "sys/policies/acl/op-s-*"    { capabilities = ["create", "read", "update", "delete"] }
"""

_ROLE: Mapping[str, object] = {"renewable": False, "token_no_default_policy": True, "token_type": "service"}

RUN_ROLE: Mapping[str, object] = {
    **_ROLE,
    "orphan": True,
    "allowed_policies": ["op-run"],
    "token_explicit_max_ttl": f"{RUN_TTL_S}s",
}
STEP_ROLE: Mapping[str, object] = {
    **_ROLE,
    "orphan": False,
    "allowed_policies_glob": ["op-s-*"],
    "disallowed_policies": ["root", "op-bot", "op-run", "op-admin", "op-apply"],
    "token_explicit_max_ttl": f"{STEP_TTL_S}s",
}
BOT_ROLE: Mapping[str, object] = {
    "role_id": "op-bot",
    "token_policies": ["op-bot"],
    "token_no_default_policy": True,
    "token_ttl": "20m",
    "token_max_ttl": "24h",
}

POLICIES: Mapping[str, str] = {"op-bot": BOT_POLICY, "op-run": RUN_POLICY}
WRITES: Mapping[str, Mapping[str, object]] = {
    "auth/token/roles/op-run": RUN_ROLE,
    "auth/token/roles/op-step": STEP_ROLE,
    "auth/approle/role/op-bot": BOT_ROLE,
}


def script(cli: str = "bao") -> str:
    """A shell script for an administrator of an external server; `cli` is `bao` or `vault`. It may be run again.

    It prints a new secret id of the bot at its end, for SIGNALBOX_VAULT_SECRET_ID_FILE.
    """
    lines = [
        "#!/bin/sh",
        f"# Sets a Vault or OpenBao up for Signalbox. Log in first ({cli} login), then run this once.",
        "set -eu",
        f"{cli} secrets list -format=json | grep -q '\"kv/\"' || {cli} secrets enable -path=kv -version=2 kv >&2",
        f"{cli} auth list -format=json | grep -q '\"approle/\"' || {cli} auth enable approle >&2",
    ]
    for name, text in {**POLICIES, "op-apply": APPLY_POLICY}.items():
        lines += [f"{cli} policy write {name} - >&2 <<'END'", text.rstrip(), "END"]
    for path, body in WRITES.items():
        lines.append(f"printf '%s' {shlex.quote(json.dumps(dict(body)))} | {cli} write {path} - >&2")
    lines += [
        "# The bot's credential. Bind it to the worker's address if you can: secret_id_bound_cidrs, token_bound_cidrs.",
        f"{cli} write -f -field=secret_id auth/approle/role/op-bot/secret-id",
    ]
    return "\n".join(lines) + "\n"
