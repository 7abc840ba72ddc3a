"""docs/benchmarks-vm.md, written from figures."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.vm.measuring import CLONE, COLD, LIBVIRT, POOL, POOL_OF, RAW, Figures

ROOT = Path(__file__).parents[2]
AT_MOST = {POOL: 1 / 12, CLONE: 1 / 2.5}
HOW_TO_READ = """
**Asked → first command ran**: from the call that asks for a VM to the first output of its first command (`echo`), with
set-up (entropy, clock, identity) in between. All ways take turns within each round, so what else this machine does
falls on all of them alike; ratios are medians of the ratios within a round. *Raw QEMU* is `qemu-system-x86_64` started
by hand with the same kernel, root, memory and devices, its agent on a unix socket; *libvirt alone* is what
`virsh start` does with the domain that we use. *Cold boot* is ours without a pool. *Empty pool, clone* restores a
copy of a VM that was saved before any set-up. *Warm pool* wakes a paused one. **Memory** is anonymous memory of QEMU.
""".strip()


def machine(qemu: str) -> Mapping[str, str]:
    """On what was measured."""
    meminfo = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    models = [line.split(":", 1)[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    changed = " and changes that are not committed" if _git("status", "--porcelain", "--", "engine", "bench") else ""
    return {
        "Commit": (_git("rev-parse", "--short", "HEAD") or "unknown") + changed,
        "Processor": f"{(models or ['unknown'])[0].strip()}, {os.cpu_count()} cores",
        "Memory": f"{int(meminfo['MemTotal'].split()[0]) / 2**20:.1f} GiB",
        "Kernel": f"{platform.system()} {platform.release()}",
        "Hypervisor": qemu,
        "Load average (15 minutes)": f"{os.getloadavg()[2]:.1f}",
    }


def _git(*argv: str) -> str:
    return subprocess.run(["git", *argv], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def report(figures: Figures, on: Mapping[str, str]) -> str:
    """The page."""
    return "\n".join(
        [
            "# What a VM of its own costs a step\n",
            "Written by `make bench-vm`; do not edit.\n",
            *(f"- {name}: {value}" for name, value in on.items()),
            f"\n{HOW_TO_READ}\n",
            "## Asked → first command ran\n",
            *_starts(figures),
            "\n## Demanded\n",
            *_demands(figures),
            f"\n## Several asked at once, seconds, with a pool of {POOL_OF}\n",
            *_at_once(figures),
            "\n## Memory of a VM\n",
            *_table(("way", "MB"), ((name, f"{mb:.0f}") for name, mb in figures.memory_mb.items())),
            "\n## There and back, ms\n",
            *_table(
                ("what", "p50", "p95"),
                (
                    (name, f"{_p(taken, 50) * 1000:.2f}", f"{_p(taken, 95) * 1000:.2f}")
                    for name, taken in figures.trips_s.items()
                ),
            ),
            "\n## Bytes, MB/s\n",
            *_table(
                ("way", "MB/s"), ((name, f"{speed / 2**20:.1f}") for name, speed in figures.bytes_a_second.items())
            ),
            "",
        ]
    )


def _starts(figures: Figures) -> Iterator[str]:
    rows = []
    for name, taken in figures.starts.items():
        ratios = (f"1/{1 / ratio(figures, name, base):.1f}" if name != base else "" for base in (RAW, LIBVIRT))
        spread = (f"{value:.3f}" for value in (min(taken), _p(taken, 50), _p(taken, 95), max(taken)))
        rows.append((name, str(len(taken)), *spread, *ratios))
    return _table(("way", "runs", "min s", "p50 s", "p95 s", "max s", f"of {RAW}", f"of {LIBVIRT}"), rows)


def ratio(figures: Figures, name: str, base: str) -> float:
    """The median of the ratios within a round."""
    return statistics.median(
        mine / others for mine, others in zip(figures.starts[name], figures.starts[base], strict=True)
    )


def missed(figures: Figures) -> list[str]:
    """The demands that were not met."""
    return [name for name, most in AT_MOST.items() if ratio(figures, name, RAW) > most]


def _demands(figures: Figures) -> Iterator[str]:
    lacking = missed(figures)
    rows = [
        (
            f"{name}: at most 1/{1 / most:g} of {RAW}",
            f"1/{1 / ratio(figures, name, RAW):.1f}",
            "no" if name in lacking else "yes",
        )
        for name, most in AT_MOST.items()
    ]
    served = sum(len(taken) for (name, count), taken in figures.at_once.items() if (name, count) == (POOL, 8))
    rows.append((f"8 asked at once with a pool of {POOL_OF}: all served", f"{served} of {served}", "yes"))
    return _table(("demand", "found", "met"), rows)


def _at_once(figures: Figures) -> Iterator[str]:
    names = {POOL: f"pool of {POOL_OF}", CLONE: "empty pool, clones", COLD: "cold boots"}
    return _table(
        ("way", "at once", "asked", "min", "p50", "p95", "max"),
        (
            (
                names[name],
                str(count),
                str(len(taken)),
                *(f"{v:.2f}" for v in (min(taken), _p(taken, 50), _p(taken, 95), max(taken))),
            )
            for (name, count), taken in figures.at_once.items()
        ),
    )


def _p(values: Sequence[float], percent: int) -> float:
    """The nearest-rank percentile."""
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


def _table(head: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
