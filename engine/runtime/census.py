"""Which VMs of an installation there are now, whoever works with them. For `signalbox vm` and the doctor.

Ours are known by the mark in their metadata only. Nothing here changes anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.runtime.domain_xml import Mark
from engine.runtime.host import Host


@dataclass(frozen=True, slots=True, kw_only=True)
class Vm:
    """A VM of ours as libvirt has it. `name`: its domain's. `state`: libvirt's word. Memory of the guest."""

    mark: Mark
    name: str
    state: str
    memory_mb: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """`strangers`: how many domains are not ours: another installation's, or nobody's that we know."""

    vms: tuple[Vm, ...]
    strangers: int


def take(host: Host, owner: str) -> Census:
    """Look once, oldest first. Raises Unavailable."""
    names = host.names()
    ours = [found for found in host.marked() if found.mark.owner == owner]
    seen = [(found, host.state(found.uuid)) for found in sorted(ours, key=lambda one: (one.mark.since, one.name))]
    return Census(
        vms=tuple(
            Vm(mark=found.mark, name=found.name, state=state.word, memory_mb=state.memory_mb)
            for found, state in seen
            if state is not None  # it ended meanwhile
        ),
        strangers=len(names - {found.name for found in ours}),
    )
