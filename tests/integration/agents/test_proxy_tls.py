"""A model's server proves who it is, by the system's certificates or by the file that its entry names."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from engine.domain.agent import Api, Usage
from engine.domain.errors import BadInput
from tests.integration.agents.doors import Purse, asking, model, opened, post
from tests.integration.agents.provider import Provider, streamed

TODAY = dt.datetime.now(dt.UTC)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 that nobody but itself signed, with its key behind it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "models")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(TODAY - dt.timedelta(days=1))
        .not_valid_after(TODAY + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


@pytest.fixture
def secure(certificate: Path) -> Iterator[Provider]:
    """A provider behind TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Provider(lambda _: streamed("openai"), context).running() as made:
        yield made


def test_a_server_that_the_models_own_certificate_vouches_for_is_asked(
    secure: Provider, certificate: Path, tmp_path: Path
) -> None:
    purse = Purse()
    with opened(model(Api.OPENAI, secure.url, tmp_path, ca=certificate), purse) as door:
        assert post(door, asking(Api.OPENAI, stream=True)).status_code == 200
    assert purse.used.tokens == 120


def test_a_server_that_nobody_vouches_for_is_not_asked(
    secure: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # an environment's proxy is never in between
    purse = Purse()
    with opened(model(Api.OPENAI, secure.url, tmp_path), purse) as door:
        answer = post(door, asking(Api.OPENAI))

    assert answer.status_code == 502
    assert "SSLCertVerificationError" in answer.json()["error"]["message"]
    assert secure.asked == []
    assert purse.used == Usage(requests=1)


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_certificates_that_cannot_be_read_open_no_door(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with (
        pytest.raises(BadInput, match=r"ca\.pem"),
        opened(model(Api.OPENAI, "https://127.0.0.1:9", tmp_path, ca=path)),
    ):
        pass
