#!/usr/bin/env python3
"""Step `diagnose`: why is the certificate of `shop` about to fail? Runs in the step's VM, looks by ssh as `reader`.

The last line of its output is the claim: {cause, public_key, days_left, evidence}. `public_key` is the sha256 of the
public key that is served; the private one is read by nobody but the service. `unknown` is an answer.
"""

import hashlib
import json
import re
import ssl
import subprocess
import sys
import tempfile
import time

LOOK = """
set -eu
echo == served
python3 -ISc 'import ssl; print(ssl.get_server_certificate(("127.0.0.1", 8080)))'
echo == file
cat /srv/shop/tls/chain.pem
"""
CERTIFICATE = re.compile(
    r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]{1,8000}\n-----END CERTIFICATE-----\n", re.ASCII
)
NEAR_DAYS = 14
DAY_S = 86400


def x509(certificate: str, *options: str) -> str:
    """What openssl says of it. Raises ValueError when it is none."""
    argv = ["openssl", "x509", "-noout", *options]
    done = subprocess.run(argv, input=certificate, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ValueError(f"openssl reads no certificate: {done.stderr.strip()[:200]}")
    return done.stdout.strip()


def issued_by(certificate: str, issuers: list[str]) -> bool:
    """Whether these sign for it, whatever the time."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as trusted:
        trusted.write("".join(issuers))
        trusted.flush()
        argv = ["openssl", "verify", "-no_check_time", "-partial_chain", "-no-CApath", "-trusted", trusted.name]
        return subprocess.run(argv, input=certificate, capture_output=True, text=True, check=False).returncode == 0


def diagnose(text: str, now: float) -> dict[str, object]:
    """The claim, from what the target said at `now`. Raises ValueError or IndexError when it said nonsense."""
    served, in_file = (CERTIFICATE.findall(part) for part in text.split("== file\n"))
    leaf = served[0]
    ends = x509(leaf, "-enddate").removeprefix("notAfter=")
    days_left = (ssl.cert_time_to_seconds(ends) - now) / DAY_S
    if in_file[:1] != [leaf]:
        cause = "unknown"
    elif not issued_by(leaf, in_file[1:]):
        cause = "wrong_chain"
    else:
        cause = "near_expiry" if days_left < NEAR_DAYS else "unknown"
    return {
        "cause": cause,
        "public_key": hashlib.sha256(x509(leaf, "-pubkey").encode()).hexdigest(),
        "days_left": round(days_left, 1),
        "evidence": [
            *x509(leaf, "-subject", "-issuer", "-enddate", "-serial").splitlines(),
            f"the file has {len(in_file)} certificates; its first is {'' if in_file[:1] == [leaf] else 'not '}served",
        ],
    }


def main() -> None:
    """Look and print."""
    looked = subprocess.run(
        ["ssh", "target", "--", "sh", "-s"], input=LOOK, capture_output=True, text=True, check=False
    )
    if looked.returncode != 0:
        sys.exit(f"could not look at the target: {looked.stderr.strip()}")
    print(json.dumps(diagnose(looked.stdout, time.time())))


if __name__ == "__main__":
    main()
