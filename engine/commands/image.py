"""`signalbox image ...`: build, list, verify, import and throw away the images that steps boot."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from engine import wiring
from engine.commands.group import Commands
from engine.coordination.opening import files_of
from engine.domain import image_names
from engine.domain.errors import BadInput
from engine.domain.runbook import Runbook, ScriptStep
from engine.runbooks.shelf import Shelf
from engine.runtime import gallery, image, inspection, own_root
from engine.runtime.hypervisor import LibvirtHypervisor
from engine.runtime.inspection import Finding
from engine.settings import Settings, load
from engine.store import migrate, runs
from engine.store.session import Database

FILE = click.Path(exists=True, path_type=Path)
NO_BOOT = click.option("--no-boot", is_flag=True, help="Look only; boot nothing.")


@click.group("image", cls=Commands)
def image_group() -> None:
    """Build, check and throw away the images that steps boot from."""


@image_group.command("build")
@click.argument("name", required=False)
@click.option("--with", "variants", metavar="VARIANT,...", help=f"What to add: {', '.join(image_names.VARIANTS)}.")
@click.option("--force", is_flag=True, help="Build even when it is up to date.")
def image_build(name: str | None, variants: str | None, force: bool) -> None:
    """Build a guest image from this machine's own apt sources (a minute or two; nothing when it is up to date).

    NAME is `step`, or `step` with variants: `step-ansible` is what `--with ansible` makes.
    """
    meant = image_names.name_of((variants or "").replace(",", " ").split())
    if name and variants and name != meant:
        raise BadInput(f"{name} is not `step` with {variants}", f"leave the name out: it will be {meant}")
    image.build(image.spec_of(name or meant), load().images, progress=click.echo, force=force)


@image_group.command("list")
def image_list() -> None:
    """Images here: name, digest, size, when it was made, packages, variants, and which runbooks name it."""
    values = load()
    users = _users(_runbooks(values), gallery.names(values.images))
    for each in gallery.listed(values.images):
        made = f"{each.digest[:19] or 'broken':<19}  {each.size / 1e6:5.0f} MB  {each.made_at:%Y-%m-%d %H:%M}Z"
        click.echo(f"{each.name:<16}  {made}  {_inside(each)}  used by {', '.join(users[each.name]) or 'no runbook'}")
        if each.problem:
            click.echo(f"  -> {each.problem}")


def _inside(each: gallery.Listed) -> str:
    if each.manifest is None:
        return "no manifest"
    what = "+".join(each.manifest.variants) or each.manifest.origin
    return f"{len(each.manifest.packages):3} packages  {what}"


@image_group.command("verify")
@click.argument("name")
@click.argument("folder", required=False, metavar="[PATH]", type=FILE)
@NO_BOOT
def image_verify(name: str, folder: Path | None, no_boot: bool) -> None:
    """Check the image NAME: digests, what a step needs of its root, kernel, agent, and a real trial boot.

    PATH is the folder of images when it is not the configured one.
    """
    values = load()
    images = folder or values.images
    found = images / name
    if not image_names.NAME.fullmatch(name) or not found.is_dir():
        there = ", ".join(gallery.names(images)) or "none"
        raise BadInput(f"there is no image {name[:60]!r} in {images}", f"there is {there}")
    findings = list(_examine(values, found, no_boot=no_boot))
    for finding in findings:
        _show(finding)
    if not all(finding.well for finding in findings):
        sys.exit(1)


def _show(finding: Finding) -> None:
    click.echo(f"{'ok ' if finding.well else 'BAD'} {finding.part}: {finding.text}")
    if finding.remedy:
        click.echo(f"      -> {finding.remedy}")


def _examine(values: Settings, folder: Path, *, no_boot: bool) -> Iterator[Finding]:
    """Look at the image in `folder`; boot it only when nothing was wrong so far."""
    findings = list(inspection.inspect(folder))
    yield from findings
    if no_boot or not all(finding.well for finding in findings):
        return
    owner = f"{wiring.owner(values)}-verify"
    with contextlib.closing(LibvirtHypervisor(values.libvirt, folder.parent, owner, values.accel)) as hypervisor:
        yield inspection.boot(hypervisor, folder.name)


@image_group.command("import")
@click.argument("name")
@click.argument("source", type=FILE, metavar="ROOTFS.tar|FOLDER|ROOTFS.erofs")
@click.option("--kernel", type=FILE, help="A vmlinuz of your own; --initrd then, too.")
@click.option("--initrd", type=FILE, help="Its modules and busybox, as in initrd-base.img. [default: those of `step`]")
@NO_BOOT
def image_import(name: str, source: Path, kernel: Path | None, initrd: Path | None, no_boot: bool) -> None:
    """Make the image NAME of a root file system of your own. It is checked like by `verify`, and refused if unfit."""
    if (kernel is None) != (initrd is None):
        raise BadInput("--kernel and --initrd belong together", "give both, or neither")
    values = load()
    own_root.bring(
        name,
        source,
        values.images,
        examine=lambda folder: _examine(values, folder, no_boot=no_boot),
        progress=click.echo,
        kernel=own_root.Kernel(kernel, initrd) if kernel and initrd else None,
    )


@image_group.command("gc")
@click.option("--dry-run/--yes", "dry", default=True, show_default=True, help="Only print; or delete.")
def image_gc(dry: bool) -> None:
    """What may go: images that no runbook, no run under way and no VM uses, and what killed builds left behind."""
    values = load()
    there = gallery.names(values.images)
    named = _runbooks(values)
    if not named:
        raise BadInput(
            f"there are no runbooks in {values.runbooks}, so nobody knows what is used", "set SIGNALBOX_RUNBOOKS"
        )
    needed = {name for name, by in _users([*named, *_of_runs(values)], there).items() if by}
    with image.only_builder(values.images, click.echo):
        found = list(gallery.waste(values.images, needed))
        for each in found:
            click.echo(f"{'would remove' if dry else 'removing'} {each.path}: {each.why}")
            if not dry:
                gallery.remove(each)
    if not found:
        click.echo("nothing may go")
    elif dry:
        click.echo("nothing was removed; with --yes it is")


Named = tuple[str, Runbook | None]
""" Who, and its runbook; None when it does not read: it may then use every image. """


def _users(named: list[Named], there: tuple[str, ...]) -> dict[str, list[str]]:
    """Image -> who uses it."""
    users: dict[str, list[str]] = {name: [] for name in there}
    for who, runbook in named:
        steps = runbook.steps if runbook else ()
        mine = {step.image for step in steps if isinstance(step, ScriptStep)} if runbook else set(there)
        for name in mine & users.keys():
            users[name].append(who if runbook else f"{who} (does not read)")
    return users


def _runbooks(values: Settings) -> list[Named]:
    shelf = Shelf(values.runbooks)
    return [(name, _read(shelf, name)) for name in shelf.names()]


def _read(shelf: Shelf, name: str) -> Runbook | None:
    try:
        return shelf.read(name).runbook
    except BadInput:
        return None


def _of_runs(values: Settings) -> Iterator[Named]:
    """Runs under way; each keeps the runbook that it started with."""
    wiring.make_home(values)
    shelf = Shelf(values.runbooks)
    with contextlib.closing(Database(values.database)) as database:
        have, want = migrate.current(database), migrate.newest()
        if not have:
            return  # nothing ran here yet
        if have != want:
            raise BadInput(f"the database is at revision {have}, this release wants {want}", "signalbox migrate")
        with database.reading() as session:
            for run in runs.in_flight(session):
                try:
                    yield run.id, shelf.restore(run.source, files_of(run)).runbook
                except BadInput:
                    yield run.id, None
