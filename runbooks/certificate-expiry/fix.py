#!/usr/bin/env python3
"""Step `fix`: the certificate that the CA renewed, with its chain, becomes the artefact. Touches no host.

What the CA's page says is not trusted: only certificates are taken from it, written anew from their bytes, and the
first must be for the key that the service has. Whether they verify, and how long, is for the gates to measure.
"""

import hashlib
import json
import re
import ssl
import subprocess
import sys
from pathlib import Path

PUBLISHED = "http://ca.shop.demo:8080/renewed/shop.pem"
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]{1,8000}\n-----END CERTIFICATE-----", re.ASCII)
MOST_BYTES = "65536"
MOST_CERTIFICATES = 4


def certificates(page: str) -> list[str]:
    """Each certificate of the page in its one spelling. Raises ValueError."""
    found = [ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(pem)) for pem in CERTIFICATE.findall(page)]
    if not 1 <= len(found) <= MOST_CERTIFICATES:
        raise ValueError(f"the CA's page has {len(found)} certificates")
    return found


def public_key(certificate: str) -> str:
    """The sha256 of its public key, as `diagnose` reckons it. Raises ValueError."""
    argv = ["openssl", "x509", "-noout", "-pubkey"]
    done = subprocess.run(argv, input=certificate, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ValueError(f"openssl reads no certificate: {done.stderr.strip()[:200]}")
    return hashlib.sha256(done.stdout.strip().encode()).hexdigest()


def chain(diagnosis: dict[str, object], page: str) -> str:
    """The file to put in place. Raises ValueError."""
    if diagnosis.get("cause") != "near_expiry":
        raise ValueError(f"there is no fix for the cause {diagnosis.get('cause')!r}")
    found = certificates(page)
    if public_key(found[0]) != diagnosis["public_key"]:
        raise ValueError("the CA's certificate is for another key than the service has")
    return "".join(found)


def main() -> None:
    """Write the artefact."""
    argv = ["curl", "-fsS", "--max-time", "30", "--max-filesize", MOST_BYTES, PUBLISHED]
    fetched = subprocess.run(argv, capture_output=True, text=True, check=False)
    if fetched.returncode != 0:
        sys.exit(f"the CA did not answer: {fetched.stderr.strip()[:300]}")
    try:
        renewed = chain(json.loads(Path("/step/claims.json").read_text())["diagnose"], fetched.stdout)
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"no fix: {error}")
    out = Path("/step/out")
    out.mkdir(exist_ok=True)
    (out / "chain.pem").write_text(renewed)
    print("the certificate that the CA renewed is the fix")


if __name__ == "__main__":
    main()
