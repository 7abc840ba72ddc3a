"""`python -m bench.vm`: measure and write the report. Ends with 1 when a demand is not met."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from bench.vm import report
from bench.vm.measuring import POOL_OF, measured
from bench.vm.ways import fleet
from demo.stage import images_folder
from engine.runtime import image
from engine.runtime.hypervisor import LibvirtHypervisor
from engine.settings import Settings, load


@contextlib.contextmanager
def _libvirtd(uri: str) -> Iterator[None]:
    """A running libvirtd; one that we started is stopped again. In session mode libvirt starts by itself."""
    if not uri.endswith("/system"):
        yield
        return
    script, state = report.ROOT / "scripts/libvirtd.py", report.ROOT / ".signalbox/bench-libvirt"
    said = subprocess.run(
        [sys.executable, str(script), "start", "--state", str(state)], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    try:
        yield
    finally:
        if "libvirtd started" in said:
            subprocess.run([sys.executable, str(script), "stop", "--state", str(state)], check=True)


@click.command()
@click.option("--runs", default=30, show_default=True, help="Rounds, each way once in each.")
@click.option("--repeats", default=3, show_default=True, help="How often several are asked at once.")
@click.option("--out", type=click.Path(path_type=Path), default=report.ROOT / "docs/benchmarks-vm.md")
@click.option("--images", type=click.Path(path_type=Path), default=images_folder, help="Folder of the guest images.")
def main(runs: int, repeats: int, out: Path, images: Path) -> None:
    """What a VM of its own costs a step."""
    values = load()
    with _libvirtd(values.libvirt):
        _bench(values, runs, repeats, out, images)


def _bench(values: Settings, runs: int, repeats: int, out: Path, images: Path) -> None:
    image.build(image.STEP, images, progress=click.echo)
    probing = LibvirtHypervisor(values.libvirt, images, "bench-probe", values.accel)
    probing.trial_boot()
    kvm, on = bool(probing._kvm), report.machine(probing.describe())
    probing.close()
    with fleet(values.libvirt, images, kvm=kvm, most=POOL_OF) as ready:
        figures = measured(ready, images, kvm=kvm, runs=runs, repeats=repeats, say=click.echo)
    out.write_text(report.report(figures, on))
    click.echo(out.read_text())
    if lacking := report.missed(figures):
        click.echo(f"not met: {', '.join(lacking)}")
        sys.exit(1)


if __name__ == "__main__":
    main()
