"""What is inside a guest image: `manifest.json`, beside the files that boot. Written by the builder, typed on reading.

Nothing in it depends on who built, where or when: the same packages and tools give the same manifest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.domain.errors import BadInput

FILE = "manifest.json"
MAX_BYTES = 4 << 20
MAX_EPOCH = 1 << 33

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
MAX_TEXT = 300
Text = Annotated[str, Field(max_length=MAX_TEXT)]


class Package(BaseModel):
    """A package inside. `within`: in the root, or in the kernel's files and the initramfs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    within: Literal["root", "kernel"]
    name: Text
    version: Text
    architecture: Text
    source: Text
    source_version: Text


class Manifest(BaseModel):
    """An image. `origin`: whether `image build` made it or an operator brought its root; `kernel_of`: the image whose
    kernel an imported one took. `epoch`: SOURCE_DATE_EPOCH, the date of the root's newest package (or file). `parts`:
    file -> digest. `release` and `tools`: of the machine that built it; bytes depend on mkfs.erofs's version, too."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    name: Text
    origin: Literal["built", "imported"]
    variants: tuple[Text, ...] = ()
    kernel: Text
    kernel_of: Text = ""
    release: Text
    tools: dict[Text, Text]
    epoch: int = Field(ge=0, lt=MAX_EPOCH)
    packages: tuple[Package, ...] = Field(max_length=20_000)
    parts: dict[Text, Digest]


def read(folder: Path) -> Manifest:
    """The manifest of the image in `folder`; raises BadInput."""
    path = folder / FILE
    remedy = f"build or import it anew: signalbox image build {folder.name}"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadInput(f"{path} is larger than {MAX_BYTES >> 20} MiB", remedy)
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}", remedy) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise BadInput(f"{path} is no manifest: {where}: {first['msg']}", remedy) from None


def write(folder: Path, manifest: Manifest) -> None:
    """Equal manifests give equal bytes."""
    text = json.dumps(manifest.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def packages(lines: Iterable[str]) -> tuple[Package, ...]:
    """From the builder's list: `within`, name, version, architecture, source, source's version, by tabs."""
    return tuple(
        Package.model_validate(dict(zip(Package.model_fields, line.split("\t"), strict=True)))
        for line in sorted(lines)
        if line
    )
