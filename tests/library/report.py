"""docs/runbooks.md: what each runbook of the library came to on real targets. Written with RUNBOOKS_REPORT=PATH."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from demo.stage import ROOT
from engine.domain.states import RunState
from engine.proving.proof import prove
from engine.runbooks.shelf import Shelf
from tests.library.case import Bad, Case
from tests.library.telling import Told

WRITTEN_TO = "RUNBOOKS_REPORT"
HEAD = """# The library of runbooks

Each was run on two real targets in VMs, every step in a VM of its own; then each bad variant of it, which must halt
before production. Written by `make test-long`, from what the tests saw. *Untouched*: production's files are byte for
byte, with every mode, owner and time, what they were, and where files do not tell, its processes are the same.
*Mutants*: of its gates, killed by its examples. `terraform-change` works on no host: it has tests of its own, in
tests/integration/terraform.

| runbook | what broke | steps | gates | time | how it ended | production untouched | mutants killed |
|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run: of the runbook as it is, or of a bad variant."""

    case: Case
    bad: Bad | None
    told: Told


def table(rows: Sequence[Row]) -> str:
    """The page; the rows of one runbook stand together, the good run first."""
    ordered = sorted(rows, key=lambda row: (row.case.runbook, row.bad is not None))
    return HEAD + "".join(_line(row) for row in ordered)


def _line(row: Row) -> str:
    snapshot = Shelf(ROOT / "runbooks").read(row.case.runbook)
    proof = prove(snapshot)
    gates = len({check.gate for check in proof.checks})
    if row.told.run.state is RunState.HALTED:
        gate, checks = row.told.halted_at
        at = (
            f"{gate} ({', '.join(sorted(checks))})" if checks else row.told.run.leg
        )  # no gate said no: a step's end did
        ended = f"halted at {at}"
    else:
        ended = str(row.told.run.state)
    broke = row.case.broke if row.bad is None else f"bad variant: {row.bad.name}"
    cells = (
        row.case.runbook,
        broke,
        str(len(snapshot.runbook.steps)),
        str(gates),
        f"{row.told.took_s:.0f} s",
        ended,
        "yes" if row.told.untouched else "no",
        f"{proof.mutants - len(proof.survivors)} of {proof.mutants}",
    )
    return f"| {' | '.join(cells)} |\n"
