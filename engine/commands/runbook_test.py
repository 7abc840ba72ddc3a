"""`signalbox runbook test`: each gate seen green and red, and noticing that it was broken."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from engine.commands.group import told
from engine.commands.table import table
from engine.domain.errors import BadInput
from engine.proving import Proof, prove
from engine.runbooks.shelf import Shelf
from engine.settings import load

HEAD = ("gate", "check", "type", "green", "red", "no data", "mutants", "died")


@click.command("test")
@click.argument("names", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Everything that was seen, as JSON.")
def runbook_test(names: tuple[str, ...], as_json: bool) -> None:
    """Replay the examples of NAME/tests.yaml through the real gates (of every runbook by default), offline.

    Each check must hold on its good examples, not on its bad ones, and never without data. Then the gates are broken
    on purpose, one thing at a time: at least 95 % of these mutants must be noticed by an example.
    """
    shelf = Shelf(load().runbooks)
    proofs, refused = [], 0
    for name in names or shelf.names():
        try:
            proofs.append(prove(shelf.read(name)))
        except BadInput as error:
            refused += 1
            click.echo(told(error), err=True)
    if as_json:
        click.echo(json.dumps([asdict(proof) for proof in proofs], indent=2))
    else:
        for proof in proofs:
            click.echo("\n".join(_lines(proof)))
    if refused or any(proof.problems for proof in proofs):
        sys.exit(1)


def _lines(proof: Proof) -> list[str]:
    rows = [
        (one.gate, one.check, one.type, one.green, one.red, one.no_data, one.mutants, one.mutants - len(one.survivors))
        for one in proof.checks
    ]
    died = proof.mutants - len(proof.survivors)
    lines = [*table(HEAD, rows), ""]
    for one in proof.survivors:
        because = f"declared: {one.because}" if one.because else "no example notices it"
        lines.append(f"survived: {one.gate}.{one.check}: {one.mutant} ({because})")
    lines += [f"problem: {problem}" for problem in proof.problems]
    outcome = (
        "its gates can fail" if not proof.problems else f"not proved: mend {proof.runbook}/tests.yaml or the gates"
    )
    return [*lines, f"{proof.runbook}: {died} of {proof.mutants} mutants died; {outcome}"]
