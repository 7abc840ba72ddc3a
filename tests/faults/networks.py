"""Two machines that are network namespaces on this one, each with a cable to us that can be cut. Needs root."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

SUBNET = "10.213.77"


@dataclass(frozen=True)
class Network:
    """One namespace. `ours` is our address on the cable."""

    name: str
    cable: str
    ours: str
    theirs: str

    @property
    def inside(self) -> tuple[str, ...]:
        """Before a command that shall run in it."""
        return ("ip", "netns", "exec", self.name)

    def lay(self) -> None:
        """Make the namespace and its cable."""
        end = f"{self.cable}x"
        _ip("netns", "add", self.name)
        _ip("link", "add", self.cable, "type", "veth", "peer", "name", end)
        _ip("link", "set", end, "netns", self.name)
        _ip("address", "add", f"{self.ours}/30", "dev", self.cable)
        _ip("link", "set", self.cable, "up")
        for what in (("address", "add", f"{self.theirs}/30", "dev", end), ("link", "set", end, "up")):
            _ip("-n", self.name, *what)

    def cut(self) -> None:
        """No packet passes any more, and nobody is told."""
        _ip("link", "set", self.cable, "down")

    def mend(self) -> None:
        """It is back."""
        _ip("link", "set", self.cable, "up")

    def remove(self) -> None:
        """Nothing of it is left."""
        for what in (("link", "del", self.cable), ("netns", "del", self.name)):
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip(*what)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=20)


@contextlib.contextmanager
def two() -> Iterator[tuple[Network, Network]]:
    """Two of them, gone afterwards."""
    mark = os.getpid() % 100_000
    made = tuple(
        Network(f"signalbox-{mark}-{which}", f"sb{mark}{which}", f"{SUBNET}.{base + 1}", f"{SUBNET}.{base + 2}")
        for which, base in (("a", 0), ("b", 4))
    )
    try:
        for each in made:
            each.lay()
        yield made[0], made[1]
    finally:
        for each in made:
            each.remove()
