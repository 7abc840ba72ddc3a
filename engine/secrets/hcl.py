"""The embedded OpenBao's configuration as text. Pure; `embedded` writes it at each start."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from engine.secrets.setup import POLICIES, WRITES

BOT_ENV = "SIGNALBOX_INIT_BOT_SECRET_ID"
ADMIN_ENV = "SIGNALBOX_INIT_ADMIN_PASSWORD"
""" Where self-initialisation finds the two values that it sets. """

_ADMIN_POLICY = 'path "*" { capabilities = ["create", "read", "update", "patch", "delete", "list", "sudo"] }\n'


def server(folder: Path, listens: Path) -> str:
    """The server's configuration. Paths that OpenBao remembers are relative, so that the folder may be moved.

    `socket_mode` is ignored unless owner and group are given; `hmac_accessor` off, so that accessors can be followed.
    """
    return f"""\
# Written by Signalbox at each start.
disable_clustering = true
api_addr = "http://localhost"
log_level = "warn"
default_lease_ttl = "10m"
max_lease_ttl = "24h"
storage "pebbledb" {{
  path = "data"
}}
listener "unix" {{
  address = {json.dumps(str(listens))}
  socket_mode = "0600"
  socket_user = "{os.getuid()}"
  socket_group = "{os.getgid()}"
  tls_disable = true
}}
seal "static" {{
  current_key_id = "1"
  current_key = {json.dumps(f"file://{folder}/unseal.key")}
}}
audit "file" "signalbox" {{
  options {{
    file_path = "audit.log"
    hmac_accessor = "false"
  }}
}}
"""


def self_init() -> str:
    """What the first start does instead of a person with a root token (which therefore never exists outside)."""
    policies = {**POLICIES, "op-admin": _ADMIN_POLICY}
    requests = [
        _request("kv", "sys/mounts/kv", {"type": "kv", "options": {"version": "2"}}),
        _request("approle", "sys/auth/approle", {"type": "approle"}),
        _request("userpass", "sys/auth/userpass", {"type": "userpass"}),
        *(_request(name, f"sys/policies/acl/{name}", {"policy": text}) for name, text in policies.items()),
        *(_request(path.replace("/", "-"), path, body) for path, body in WRITES.items()),
        _request("bot", "auth/approle/role/op-bot/custom-secret-id", {}, secret_id=BOT_ENV),
        _request("admin", "auth/userpass/users/admin", {"token_policies": ["op-admin"]}, password=ADMIN_ENV),
    ]
    return 'initialize "signalbox" {\n' + "".join(requests) + "}\n"


def _request(name: str, path: str, data: Mapping[str, object], **from_env: str) -> str:
    items = [f"{key} = {_literal(value)}" for key, value in data.items()]
    items += [
        f'{key} = {{ eval_source = "env", eval_type = "string", env_var = "{env}", require_present = true }}'
        for key, env in from_env.items()
    ]
    lines = ('operation = "update"', f'path = "{path}"', f"data = {{ {', '.join(items)} }}")
    return "\n".join([f'  request "{name}" {{', *(f"    {line}" for line in lines), "  }\n"])


def _literal(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_literal(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)
