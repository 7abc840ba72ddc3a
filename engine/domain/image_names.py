"""Names of guest images: the base, its variants, what a name looks like. For lint, the JSON Schema, the builder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from engine.domain.errors import BadInput

NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
BASE = "step"
ANSIBLE = "step-ansible"

VARIANTS: Mapping[str, tuple[str, ...]] = {
    "ansible": ("ansible-core",),
}
""" What `image build --with` knows: the Debian packages that a variant adds. Tools that Debian has not (Terraform) come
in a root file system of one's own: `image import`. """


def name_of(variants: Iterable[str] = ()) -> str:
    """The base with these variants: `step`, `step-ansible`. Raises BadInput for an unknown one."""
    chosen = sorted(set(variants))
    if unknown := [variant for variant in chosen if variant not in VARIANTS]:
        raise BadInput(
            f"there is no variant {', '.join(unknown)}",
            f"known: {', '.join(VARIANTS)}; other tools come in a root of your own: signalbox image import",
        )
    return "-".join((BASE, *chosen))


def variants_of(name: str) -> tuple[str, ...] | None:
    """The variants in a name that `name_of` could give; None for any other name."""
    base, *variants = name.split("-")
    known = base == BASE and all(variant in VARIANTS for variant in variants) and variants == sorted(set(variants))
    return tuple(variants) if known else None


def how_to_get(name: str) -> str:
    """The command that makes an image of this name."""
    return (
        f"signalbox image build {name}"
        if variants_of(name) is not None
        else f"signalbox image import {name} ROOTFS.tar"
    )


def built_here() -> tuple[str, ...]:
    """The base and the base with one variant each: what `image build` makes, for people and editors to choose from."""
    return (BASE, *(name_of((variant,)) for variant in VARIANTS))
