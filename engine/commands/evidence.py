"""`signalbox evidence ...`: export what is kept of an incident, and check it, offline, with a public key alone."""

from __future__ import annotations

import os
from pathlib import Path

import click

from engine import wiring
from engine.commands.group import Commands
from engine.domain.errors import BadInput
from engine.evidence import bundle, key
from engine.evidence.anchor import look
from engine.evidence.line import Line
from engine.evidence.verify import verify
from engine.settings import Settings, load
from engine.store.evidence import dossier

AT_MOST = 10
""" So many things wrong with the anchors file are told. """


@click.group(cls=Commands)
def evidence() -> None:
    """Prove what happened in an incident: export it, verify it offline."""


@evidence.command("key")
def evidence_key() -> None:
    """Print the public key, by which an auditor verifies."""
    click.echo(key.public_pem(wiring.anchor_key(load())), nl=False)


@evidence.command("export")
@click.argument("incident")
@click.option("-o", "out", type=click.Path(dir_okay=False, path_type=Path), help="Where to. [default: stdout]")
def evidence_export(incident: str, out: Path | None) -> None:
    """Write the evidence of INCIDENT (its number) as one JSON file, with the anchors that mention it."""
    number = incident.upper().removeprefix("INC-")
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
        raise BadInput(f"{incident[:40]!r} is no number of an incident", "signalbox incident list")
    values = load()
    with wiring.reading(values) as session:
        anchors = _anchors(values, int(number))  # first: an anchor must not have seen more than is exported
        data = bundle.write(dossier(session, int(number)), anchors)
    if out is None:
        click.echo(data, nl=False)
        return
    try:
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(data)
    except OSError as error:
        raise BadInput(f"cannot write {out}: {error.strerror}", "choose another place") from None
    click.echo(f"wrote {out} ({len(data)} bytes); check it: signalbox evidence verify {out} --key PUB", err=True)


def _anchors(values: Settings, incident: int) -> tuple[Line, ...]:
    """The lines that mention an incident; whatever is wrong with the file is said."""
    path = values.anchors_file
    public = wiring.anchor_key(values).public_key()
    try:
        read = look(path, incident, {key.fingerprint(public): public})
    except FileNotFoundError:
        click.echo(f"there is no anchors file {path}: what is exported is not anchored, and proves little", err=True)
        return ()
    for what in (*read.known.wrong, *read.known.told)[:AT_MOST]:
        click.echo(f"{path}: {what}", err=True)
    if not read.lines:
        click.echo(f"{path} does not mention incident {incident} yet: what is exported is not anchored", err=True)
    return read.lines


@evidence.command("verify")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--key",
    "keys",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    required=True,
    help="The public key (PEM), from `signalbox evidence key`. Again for each key that was used before it.",
)
def evidence_verify(file: Path, keys: tuple[Path, ...]) -> None:
    """Check FILE offline. Exit code 0 only when all of it holds; otherwise the first broken row is named."""
    if file.stat().st_size > bundle.MAX_BYTES:
        raise BadInput(f"{file} is larger than {bundle.MAX_BYTES >> 20} MB", "no incident has that much evidence")
    public = [key.public_from_pem(path.read_bytes()[:10_000].decode("ascii", "replace"), str(path)) for path in keys]
    report = verify(bundle.read(file.read_bytes()), {key.fingerprint(each): each for each in public})
    click.echo(
        f"incident {report.incident}: {report.events} events and {report.records} records hold; "
        f"anchored up to event {report.anchored} on {report.anchored_at}"
    )
    if report.unanchored:
        click.echo(f"{report.unanchored} events since the last anchor are not anchored yet")
