"""Secrets that nobody told us about, known by their looks. `engine.secrets.redact` applies these to each line.

No pattern may cross a line break, and each must be linear: the text comes from VMs that may be hostile. So every start
is anchored by a look-behind, and a repetition never meets another one over the same characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_WORD = r"(?<![A-Za-z0-9_-])"
""" A token starts where no token character stands before it; this also keeps the search linear. """

_IS = r"[\"']?[ \t]{0,8}[=:][ \t]{0,8}[\"']?"
""" What stands between a name and its value in headers, shells, YAML and JSON. """
_VAULT = r"(?:hv[sbr]\.[A-Za-z0-9_-]{20,}|[sbr]\.[A-Za-z0-9]{24}(?:\.[A-Za-z0-9]{5,})?(?![A-Za-z0-9]))"
_ASSIGNED = (
    r"(?i:password|passwd|passphrase|api_?key|access_?token|client_?secret|secret_?key|secret_?id)"
    + _IS
    + r"([^\s\"'&,;]{4,})"
)

_SOURCES: tuple[tuple[str, str], ...] = (
    # developer.hashicorp.com/vault/docs/concepts/tokens#token-prefixes ; OpenBao keeps `s.` and `b.`
    ("vault-token", _WORD + _VAULT),
    ("aws-key", _WORD + r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])"),
    ("aws-secret", r"(?i:aws_?secret_?access_?key)" + _IS + r"([A-Za-z0-9/+]{40})"),
    ("github-token", _WORD + r"(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})"),
    ("gitlab-token", _WORD + r"glpat-[A-Za-z0-9_-]{20,}"),
    ("slack-token", _WORD + r"(?:xox[abceprs]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{20,})"),
    ("slack-webhook", r"https://hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/([A-Za-z0-9_/-]{20,})"),
    ("stripe-key", _WORD + r"(?:[sr]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/=]{20,})"),
    ("model-key", _WORD + r"sk-[A-Za-z0-9_-]{20,}"),
    ("google-key", _WORD + r"AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),
    ("registry-token", _WORD + r"(?:npm_[A-Za-z0-9]{36}|pypi-AgE[A-Za-z0-9_-]{40,})"),
    ("jwt", _WORD + r"eyJ[A-Za-z0-9_-]{8,}+\.eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}"),
    ("url-password", r"://[^\s/:@\"'<>]{0,128}:([^\s/@\"'<>]{3,256})@"),
    ("auth-header", r"(?i:\bauthorization)" + _IS + r"(?i:bearer|basic|token)[ \t]{1,8}([^\s\"',;]{8,})"),
    ("vault-header", r"(?i:\bx-vault-token)" + _IS + r"([^\s\"',;]{4,})"),
    ("assignment", _ASSIGNED),
)
_PATTERNS = tuple((name, re.compile(source)) for name, source in _SOURCES)

_KIND = r"[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?"
KEY_BEGIN = re.compile(rf"-----BEGIN {_KIND}-----")
""" A private key spans lines: from here to KEY_END everything is masked (RFC 7468; OpenSSH and PGP look alike). """
KEY_END = re.compile(rf"-----END {_KIND}-----")


class Found:
    """One hit: `start`-`end` is masked as `name`; `whole_start` is where the words begin that gave it away."""

    __slots__ = ("end", "name", "start", "whole_start")

    def __init__(self, name: str, match: re.Match[str]) -> None:
        self.name = name
        self.whole_start = match.start()
        self.start, self.end = match.span(match.re.groups)


def search(text: str) -> Iterator[Found]:
    """Every hit of every pattern, in no particular order; hits may overlap."""
    for name, pattern in _PATTERNS:
        for match in pattern.finditer(text):
            yield Found(name, match)
