"""One line of the anchors file: heads of chains at one moment, signed, naming the hash of the line before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.domain.chain import spelled
from engine.domain.digest import canonical, of_bytes
from engine.domain.errors import BadInput
from engine.evidence.key import fingerprint

PURPOSE = b"signalbox-anchor/1\n"
""" Before what is signed: a signature of ours for anything else is none for a line. """
DIGEST = r"^sha256:[0-9a-f]{64}$"


class Seen(BaseModel):
    """An incident's head. `after`: the seq that the line before it which speaks of this incident saw; 0 for none."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    incident: int = Field(ge=1)
    seq: int = Field(ge=1)
    hash: str = Field(pattern=DIGEST)
    after: int = Field(ge=0)


class Line(BaseModel):
    """A signed line. `key`: the fingerprint of the key that signed it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    previous: str = Field(max_length=100)
    at: str = Field(max_length=40)
    heads: list[Seen] = Field(min_length=1)
    key: str = Field(pattern=DIGEST)
    signature: str = Field(pattern=r"^[0-9a-f]{128}$")

    @property
    def text(self) -> str:
        """The line as it is written."""
        return canonical(self.model_dump())

    @property
    def digest(self) -> str:
        """What the next line names as the one before it."""
        return of_bytes(self.text.encode())

    def head(self, incident: int) -> Seen | None:
        """What it saw of this incident."""
        return next((seen for seen in self.heads if seen.incident == incident), None)

    def complaint(self, keys: Mapping[str, Ed25519PublicKey]) -> str:
        """Why none of these keys signed this line; empty when one did. `keys`: by fingerprint."""
        key = keys.get(self.key)
        if key is None:
            return f"was signed with another key ({self.key[7:19]})"
        try:
            key.verify(bytes.fromhex(self.signature), _signed(self.model_dump(exclude={"signature"})))
        except InvalidSignature:
            return "has a bad signature: it was not written by who holds the key"
        return ""


def _signed(value: Mapping[str, object]) -> bytes:
    return PURPOSE + canonical(value).encode()


def sign(key: Ed25519PrivateKey, *, previous: str, at: datetime, heads: Sequence[Seen]) -> Line:
    """A new line."""
    mark = fingerprint(key.public_key())
    said = {"previous": previous, "at": spelled(at), "heads": [head.model_dump() for head in heads], "key": mark}
    return Line(**said, signature=key.sign(_signed(said)).hex())  # type: ignore[arg-type]  # validated by pydantic


def read(text: str) -> Line:
    """A line as it was written; raises BadInput for anything else."""
    try:
        line = Line.model_validate_json(text)
        if line.text == text:
            return line
    except (ValidationError, ValueError):
        pass
    raise BadInput("not a line of anchors", "it was cut off by a crash, or edited")
