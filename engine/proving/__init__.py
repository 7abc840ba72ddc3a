"""Proving a runbook's gates before it is activated: examples replayed through the real kinds, and mutants of the gates.

Called by `signalbox runbook test` (`prove`), and by whatever activates a runbook (`proved`).
"""

from __future__ import annotations

from engine.proving.proof import Proof, prove, proved

__all__ = ["Proof", "prove", "proved"]
