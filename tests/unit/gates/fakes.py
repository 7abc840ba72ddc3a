"""Doubles for the gate kinds: facts, and a verifier that answers what a test says."""

from __future__ import annotations

from collections.abc import Mapping

from engine.domain.errors import SignalboxError
from engine.domain.gate import Facts, Json
from engine.domain.ports import ProbeAnswer


def facts(
    *,
    inputs: Mapping[str, str] | None = None,
    claims: Mapping[str, Json] | None = None,
    digests: Mapping[str, str] | None = None,
    hosts: Mapping[str, str] | None = None,
) -> Facts:
    return Facts(inputs=inputs or {}, claims=claims or {}, digests=digests or {}, hosts=hosts or {})


class FakeProbe:
    """Answers every command alike and remembers what was asked."""

    def __init__(self, stdout: str = "", code: int | None = 0, *, reason: str = "") -> None:
        self.answer = ProbeAnswer(ran=not reason, code=code, stdout=stdout, stderr="", reason=reason)
        self.asked: list[tuple[str, tuple[str, ...], float]] = []

    def __call__(self, target: str, argv: tuple[str, ...], timeout_s: float) -> ProbeAnswer:
        self.asked.append((target, argv, timeout_s))
        return self.answer


class NoProbe:
    """For kinds that must not ask a verifier; raises the given error if one is asked."""

    def __init__(self, error: SignalboxError | None = None) -> None:
        self.error = error

    def __call__(self, target: str, argv: tuple[str, ...], timeout_s: float) -> ProbeAnswer:
        raise self.error or AssertionError("this kind must not run a command")
