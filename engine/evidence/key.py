"""The key that signs anchors: Ed25519, as PEM. Whoever checks needs the public half only."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from engine.domain.digest import of_bytes
from engine.domain.errors import BadInput, Unavailable


def kept_in(path: Path) -> Ed25519PrivateKey:
    """The key in this file, made there (mode 0600) when there is none. Raises BadInput, Unavailable."""
    try:
        if not path.exists():
            _make(path)
        if path.stat().st_mode & 0o077:
            raise BadInput(f"{path} is open to other users", f"chmod 600 {path}; who read it can sign: make a new one")
        return from_pem(path.read_text(errors="replace"), str(path))
    except OSError as error:
        raise Unavailable(f"cannot use {path}: {error.strerror}", "check its owner and the disk") from None


def _make(path: Path) -> None:
    """Whole or not at all, and by one of two processes that start together."""
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def from_pem(text: str, where: str) -> Ed25519PrivateKey:
    """A private key; raises BadInput that never repeats what was read."""
    try:
        key = serialization.load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadInput(f"{where} holds no Ed25519 key", "make one: openssl genpkey -algorithm ed25519") from None
    return key


def public_pem(key: Ed25519PrivateKey) -> str:
    """The public half, as PEM."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def public_from_pem(text: str, where: str) -> Ed25519PublicKey:
    """A public key; raises BadInput."""
    try:
        key = serialization.load_pem_public_key(text.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise BadInput(f"{where} holds no public Ed25519 key", "signalbox evidence key prints it") from None
    return key


def fingerprint(key: Ed25519PublicKey) -> str:
    """By what a line names the key that signed it."""
    return of_bytes(key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw))
