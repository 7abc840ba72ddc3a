"""The ssh configuration of a step or a probe: `ssh target -- command` just works in its VM. Used by the runners.

Nothing is learnt on first use: the target's host key comes from the directory, the login's private key from the grant.
"""

from __future__ import annotations

from engine.domain.directory import Site
from engine.domain.errors import BadInput
from engine.domain.ports import FileIn, SecretValue
from engine.domain.runbook import Login, Target

FOLDER = "/step/.ssh"
ALIAS = "target"


def files(target: Target, site: Site | None, login: Login) -> tuple[FileIn, ...]:
    """~/.ssh/config and known_hosts. Raises BadInput when the directory knows no host key."""
    if site is None or not site.ssh_host_key:
        raise BadInput(
            f"site {target.host!r} has no ssh host key", "add ssh_host_key to it in the file SIGNALBOX_SITES"
        )
    for word in (target.host, login.user, login.key):
        _refuse_odd(word)
    name = target.host if target.port == 22 else f"[{target.host}]:{target.port}"
    config = f"""Host {ALIAS}
  HostName {target.host}
  Port {target.port}
  User {login.user}
  IdentityFile /run/secrets/{login.key}
  IdentitiesOnly yes
  UserKnownHostsFile {FOLDER}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  PreferredAuthentications publickey
  BatchMode yes
  ConnectTimeout 30
  ServerAliveInterval 15
  ServerAliveCountMax 4
  LogLevel ERROR
"""
    return (
        FileIn(path=f"{FOLDER}/config", content=config.encode(), mode=0o600),
        FileIn(path=f"{FOLDER}/known_hosts", content=f"{name} {site.ssh_host_key}\n".encode(), mode=0o600),
    )


def with_final_newline(secrets: tuple[SecretValue, ...], key: str) -> tuple[SecretValue, ...]:
    """The login's private key as ssh reads it: without a newline at its end it is "invalid format"."""
    return tuple(
        SecretValue(name=secret.name, value=secret.value.rstrip("\n") + "\n") if secret.name == key else secret
        for secret in secrets
    )


def _refuse_odd(word: str) -> None:
    if not word or not all(letter.isalnum() or letter in "._-" for letter in word) or word.startswith("-"):
        raise BadInput(f"{word!r} cannot stand in an ssh configuration", "use letters, digits, . _ -")
