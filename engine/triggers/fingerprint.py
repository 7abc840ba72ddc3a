"""Alertmanager's fingerprint of a set of labels, for senders that leave it out. Used by the parsers of this room."""

from __future__ import annotations

from collections.abc import Mapping

_OFFSET = 14695981039346656037
_PRIME = 1099511628211
_MASK = (1 << 64) - 1
_SEPARATOR = b"\xff"


def fnv1a64(labels: Mapping[str, str]) -> str:
    """FNV-1a 64 over `name 0xff value 0xff`, names sorted, as 16 hex digits: the value that Alertmanager sends.

    Source: `labelSetToFingerprint` in https://github.com/prometheus/common/blob/main/model/signature.go.
    Grafana hashes labels that it does not send, so a given fingerprint always goes before a computed one.
    """
    digest = _OFFSET
    for name in sorted(labels):
        for byte in name.encode() + _SEPARATOR + labels[name].encode() + _SEPARATOR:
            digest = ((digest ^ byte) * _PRIME) & _MASK
    return f"{digest:016x}"
