"""The world's ssh keys: one host key a target, one key a person and target. Fresh for every world."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from demo.world.processes import tool


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
    tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path))
    kind, body, _ = path.with_suffix(".pub").read_text().split(maxsplit=2)
    fingerprint = tool("ssh-keygen", "-l", "-f", str(path)).split()[1]
    return Key(path, f"{kind} {body}", fingerprint)
