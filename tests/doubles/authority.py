"""A certificate authority of the tests: real keys, real certificates, no trust outside of the test."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

YEAR = 365.0


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The private key as a server reads it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class Authority:
    """A root, or what `parent` made an authority. `pem`: its own certificate."""

    def __init__(self, name: str, parent: Authority | None = None) -> None:
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = new_key()
        above = parent or self
        builder = _builder(self._name, self._key, -1.0, 10 * YEAR).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.pem = above._sign(builder)

    def issue(self, key: ec.EllipticCurvePrivateKey, names: Sequence[str], days: float) -> bytes:
        """A server's certificate in PEM that ends in so many days; it began long before. The first name is its CN."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        builder = _builder(subject, key, days - YEAR, days)
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_general, names))), critical=False)
        return self._sign(builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True))

    def _sign(self, builder: x509.CertificateBuilder) -> bytes:
        public = self._key.public_key()
        extension = x509.AuthorityKeyIdentifier.from_issuer_public_key(public)
        signed = builder.issuer_name(self._name).add_extension(extension, critical=False).sign(self._key, SHA256())
        return signed.public_bytes(Encoding.PEM)


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, from_days: float, to_days: float
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=from_days))
        .not_valid_after(now + timedelta(days=to_days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
