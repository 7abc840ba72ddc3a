"""Every way in which tools are known to print a secret. `engine.secrets.redact` masks what this module lists.

It cannot list what somebody who wants to smuggle a secret out may invent (xor, spaces, gzip): only a secret that never
enters the VM is safe from that.
"""

from __future__ import annotations

import base64
import html
import json
import re
import urllib.parse
from collections.abc import Callable, Iterator

SHORTEST = 6
""" Characters. A shorter value would be masked all over ordinary text, so it is refused as a secret. """

_BASH_SPECIAL = re.compile(r"([ !\"#$&'()*,;<>?\[\\\]^`{|}~])")
_PERCENT = re.compile(r"%[0-9A-F]{2}")
_WRAPS = {"base64": (76, 64), "hex": (60, 32)}
""" Columns at which `base64`, `openssl base64`, `xxd -p` and `hexdump -e` break their lines. """

_SHORTEST_PIECE = 16
""" The last piece of a wrapped encoding may be a few common characters. """


def variants(value: str) -> frozenset[str]:
    """The value and all its encodings, each at least `SHORTEST` characters long and without white space around it.

    (So a stream need not hold back every line end because some key ends in one.)
    """
    found = {value, value[::-1], *_quotings(value), *_binary(value)}
    for line in value.splitlines():
        bare = line.strip()
        found |= {bare, *_quotings(bare)}
    return frozenset(text for text in map(str.strip, found) if len(text) >= SHORTEST)


def _json(text: str) -> str:
    return json.dumps(text)[1:-1]


def _json_utf8(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _json_go(text: str) -> str:
    return _json_utf8(text).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _repr(text: str) -> str:
    return repr(text)[1:-1]


def _repr_bytes(text: str) -> str:
    return repr(text.encode())[2:-1]


def _printf_q(text: str) -> str:
    return _BASH_SPECIAL.sub(r"\\\1", text)


def _ansi_c(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\t", "\\t")


def _percent_lower(text: str) -> str:
    return _PERCENT.sub(lambda match: match[0].lower(), urllib.parse.quote(text, safe=""))


_QUOTINGS: tuple[Callable[[str], str], ...] = (
    lambda text: text.replace("\n", "\\n"),
    lambda text: text.replace("\n", "\r\n"),
    lambda text: text.replace("\n", ""),
    lambda text: text.replace("\n", " "),
    lambda text: urllib.parse.quote(text, safe=""),
    urllib.parse.quote,
    urllib.parse.quote_plus,
    _percent_lower,
    lambda text: urllib.parse.quote(text, safe="").lower(),
    _json,
    _json_utf8,
    _json_go,
    lambda text: _json_utf8(text).replace("/", "\\/"),
    lambda text: _json(_json(text)),
    lambda text: _json_utf8(_json_utf8(text)),
    html.escape,
    lambda text: html.escape(text, quote=False),
    lambda text: html.escape(text).replace("&#x27;", "&#39;").replace("&quot;", "&#34;"),
    _repr,
    _repr_bytes,
    lambda text: text.replace("'", "'\\''"),
    lambda text: text.replace("'", "'\"'\"'"),
    lambda text: text.replace("'", "\\'"),
    lambda text: text.replace('"', '\\"'),
    _ansi_c,
    _printf_q,
)


def _quotings(text: str) -> Iterator[str]:
    return (quoting(text) for quoting in _QUOTINGS)


def _inner(value: bytes, encode: Callable[[bytes], bytes], group: int, bits: int) -> Iterator[str]:
    """The encoding of the value wherever it sits inside a longer encoded text (`user:secret`).

    `group` bytes become whole characters of `bits` bits; characters at the edges depend on the neighbours: cut off.
    """
    for offset in range(group):
        text = encode(b"\0" * offset + value).rstrip(b"=").decode()
        head = -(-offset * 8 // bits)
        tail = 1 if (offset + len(value)) * 8 % bits else 0
        yield text[head : len(text) - tail]


def _wrapped(text: str, columns: tuple[int, ...]) -> Iterator[str]:
    for width in columns:
        if len(text) > width:
            pieces = (text[start : start + width] for start in range(0, len(text), width))
            yield from (piece for piece in pieces if len(piece) >= _SHORTEST_PIECE)


def _binary(value: str) -> Iterator[str]:
    raw = value.encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield from _inner(raw, encode, 3, 6)
        yield from _wrapped(next(_inner(raw, encode, 3, 6)), _WRAPS["base64"])
    for text in _inner(raw, base64.b32encode, 5, 5):
        yield from (text, text.lower())
    digits = raw.hex()
    for text in (digits, digits.upper(), raw.hex(" "), raw.hex(":"), raw.hex(" ").upper(), raw.hex(":").upper()):
        yield text
    yield from _wrapped(digits, _WRAPS["hex"])
