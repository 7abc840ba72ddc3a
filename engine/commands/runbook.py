"""`signalbox runbook ...`: write runbooks, look at them, prove them, and say which of them alerts may start."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from engine import wiring
from engine.commands.activation import activate, activated_state
from engine.commands.group import Commands, told
from engine.commands.runbook_test import runbook_test
from engine.domain.errors import BadInput
from engine.domain.runbook import Runbook
from engine.runbooks import comparison, picture, revision, rulebook, skeleton
from engine.runbooks.comparison import State
from engine.runbooks.format import CHANGING, schema
from engine.runbooks.shelf import Shelf, shaped
from engine.settings import load

SCHEMA = "runbook.v1.schema.json"


@click.group(cls=Commands)
def runbook() -> None:
    """Write runbooks, and prove them before an alert needs them."""


@runbook.command("new")
@click.argument("name")
@click.option("--from", "other", metavar="RUNBOOK", help="Begin with a copy of this runbook, not with the skeleton.")
def runbook_new(name: str, other: str | None) -> None:
    """Write the runbook NAME: a YAML that lint accepts, and scripts to be filled in."""
    values = load()
    shelf = Shelf(values.runbooks)
    if not shelf.is_name(name):
        raise BadInput(f"{name[:60]!r} is no name of a runbook", "use lower case letters, digits and hyphens")
    path, folder = values.runbooks / f"{name}.yaml", values.runbooks / name
    if path.exists() or folder.exists():
        raise BadInput(f"there is a runbook {name} already", "choose another name")
    if other:
        source, files = shelf.texts(other)
        text = source.replace(f"\nname: {other}\n", f"\nname: {name}\n", 1)
    else:
        text, files = skeleton.text(name, SCHEMA), dict(skeleton.FILES)
    _write(path, text.encode())
    _write(values.runbooks / SCHEMA, _schema().encode())
    for file, data in files.items():
        _write(folder / file, data)
    shelf.read(name)
    click.echo(f"wrote {path} and {len(files)} files in {folder}/")
    click.echo(f"  edit them; editors complete by {SCHEMA}")
    click.echo(f"  signalbox runbook lint {name}        what is not safe yet, and how to mend it")
    click.echo(f"  signalbox runbook graph {name}       the line of steps, and what is measured")
    click.echo(f"  signalbox runbook test {name}        its gates seen green and red, by the examples in tests.yaml")
    click.echo(f"  signalbox runbook activate {name}    from then on its alerts start it")


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        if data.startswith(b"#!"):
            path.chmod(0o755)
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror}", "mend its permissions") from None


@runbook.command("lint")
@click.argument("names", nargs=-1)
@click.option("--rules", is_flag=True, help="Print every rule with its examples (docs/lint.md) instead.")
@click.option("--explain", metavar="RULE", help="Print one rule with its examples instead, such as L003.")
def runbook_lint(names: tuple[str, ...], rules: bool, explain: str | None) -> None:
    """Validate and lint runbooks (all of them by default): every problem with file, line, column and how to mend it."""
    if rules or explain:
        click.echo(rulebook.explain(explain) if explain else rulebook.page(), nl=False)
        return
    shelf = wiring.known_shelf(load())
    broken = 0
    if not names and not shelf.names():
        click.echo(f"there are no runbooks in {shelf.folder}; signalbox runbook new NAME writes one", err=True)
    for name in names or shelf.names():
        try:
            snapshot = shelf.read(name)
        except BadInput as error:
            broken += 1
            click.echo(told(error), err=True)
        else:
            click.echo(f"{name}: {len(snapshot.runbook.steps)} steps, {snapshot.digest[:19]}, clean")
    if broken:
        sys.exit(1)


@runbook.command("schema")
def runbook_schema() -> None:
    """Print the JSON Schema of the file, for editors."""
    click.echo(_schema(), nl=False)


def _schema() -> str:
    return json.dumps(schema(), indent=1) + "\n"


def _draft(name: str) -> Runbook:
    return Shelf(load().runbooks).draft(name)


@runbook.command("graph")
@click.argument("name")
@click.option("--mermaid", "form", flag_value="mermaid", help="As a Mermaid flowchart, for Markdown.")
@click.option("--dot", "form", flag_value="dot", help="As a graph for Graphviz.")
def runbook_graph(name: str, form: str | None) -> None:
    """Draw NAME: the line of steps with its rehearsal, gates, questions and rollbacks."""
    draw = {"mermaid": picture.mermaid, "dot": picture.dot}.get(form or "", picture.graph)
    click.echo(draw(_draft(name)))


@runbook.command("show")
@click.argument("name")
def runbook_show(name: str) -> None:
    """Tell NAME in words: when it starts, what each step may touch, what is measured, who is asked."""
    shelf = Shelf(load().runbooks)
    source, _ = shelf.texts(name)
    file, found, _ = shaped(source, str(shelf.folder / f"{name}.yaml"))
    asking = (step for step in file.steps if isinstance(step, CHANGING))
    excuses = {step.id: step.unapproved for step in asking if step.unapproved}
    click.echo(picture.show(found, excuses))


@runbook.command("diff")
@click.argument("name")
@click.argument("against", required=False, metavar="[REVISION|FILE]")
@click.option("--activated", is_flag=True, help="Compare with what was activated.")
def runbook_diff(name: str, against: str | None, activated: bool) -> None:
    """Say what changed in NAME since a git revision (HEAD by default) or against a file: what it may touch, who guards
    it, what it does, not only its text."""
    values = load()
    source, files = Shelf(values.runbooks).texts(name)
    now = State("now", source, files)
    if activated:
        before = activated_state(values, name)
    elif against and against.endswith((".yaml", ".yml")):
        other = Path(against)
        before = State(against, *Shelf(other.parent).texts(other.stem))
    else:
        before = State(against or "HEAD", *revision.texts(values.runbooks, name, against or "HEAD"))
    click.echo(comparison.tell(before, now))


runbook.add_command(runbook_test)
runbook.add_command(activate)
