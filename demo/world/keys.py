"""The world's ssh keys: one host key a target, one key a person and target. Fresh for every world."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from engine.domain.errors import Unavailable


@dataclass(frozen=True, slots=True)
class Key:
    """One ed25519 key pair. `public` is `ssh-ed25519 AAAA...` without a comment; `path` is the private file (0600)."""

    path: Path
    public: str
    fingerprint: str

    @property
    def private(self) -> str:
        """The private half, as ssh wants it in a file."""
        return self.path.read_text()


def generate(path: Path, name: str) -> Key:
    """Make a key pair at `path`; ssh-keygen gives the private file mode 0600."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _keygen("-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path))
    kind, body, _ = path.with_suffix(".pub").read_text().split(maxsplit=2)
    fingerprint = _keygen("-l", "-f", str(path)).split()[1]
    return Key(path, f"{kind} {body}", fingerprint)


def _keygen(*arguments: str) -> str:
    try:
        done = subprocess.run(["ssh-keygen", *arguments], capture_output=True, text=True, check=True, timeout=30)
    except FileNotFoundError:
        raise Unavailable("ssh-keygen is not installed", "run `make demo`, which installs what it needs") from None
    return done.stdout
