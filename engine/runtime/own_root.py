"""An operator's own root file system becomes an image: `signalbox image import`. Kernel and agent stay Signalbox's.

A tar or a folder is laid out and packed by us (`engine.runtime.layout` says what is refused); the same content gives
the same bytes. A ready-made rootfs.erofs is taken as it is. Nothing of it is run or mounted on this machine, and it
takes its place only if every look at it finds it fit.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.domain import image_names
from engine.domain.errors import BadInput, Refused, Unavailable
from engine.runtime import image, layout, manifest
from engine.runtime.inspection import Finding, kernel_release
from engine.runtime.manifest import Manifest, Package

DPKG = "var/lib/dpkg/status"
MAX_DPKG_BYTES = 32 << 20
MAX_EROFS_BYTES = 8 << 30
MAX_KERNEL_BYTES = 256 << 20
PACK_TIMEOUT_S = 1800
NO_UUID = "00000000-0000-0000-0000-000000000000"
_SOURCE = re.compile(r"(\S+)(?: \((.*)\))?")

Examine = Callable[[Path], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel, and the base of an initramfs with its modules: /m/*.ko in the order of loading, and /bin/busybox."""

    vmlinuz: Path
    initrd: Path
    of: str = ""


def bring(
    name: str, source: Path, images: Path, *, examine: Examine, progress: image.Progress, kernel: Kernel | None = None
) -> Path:
    """Make IMAGES/NAME of the root in `source`; returns the folder. Without `kernel` it gets that of the image `step`.

    `examine` looks at the new image (a folder NAME in a folder of its own) before it takes its place. Raises Refused
    with every finding that is not well, BadInput for a source that cannot be taken, Unavailable without mkfs.erofs.
    """
    _check_name(name)
    chosen = kernel or _kernel_of_base(images)
    with image.only_builder(images, progress), image.replacing(images / name) as fresh:
        progress(f"image {name}: packing {source}")
        epoch, packages = _root(source, fresh / "rootfs.erofs")
        for origin, part in ((chosen.vmlinuz, "vmlinuz"), (chosen.initrd, image.BASE_INITRD)):
            _take(origin, fresh / part, MAX_KERNEL_BYTES)
        made = Manifest(
            name=name,
            origin="imported",
            kernel=kernel_release(fresh / "vmlinuz"),
            kernel_of=chosen.of,
            release=platform.freedesktop_os_release()["PRETTY_NAME"],
            tools=image.tool_versions(),
            epoch=epoch,
            packages=packages,
            parts={},
        )
        image.finish(fresh, made, image.own_initrd(image.STEP))
        progress(f"image {name}: looking at it")
        _refuse([finding for finding in examine(fresh) if not finding.well])
    progress(f"image {name}: ready in {images / name}")
    return images / name


def _check_name(name: str) -> None:
    if not image_names.NAME.fullmatch(name):
        raise BadInput(f"image name {name[:60]!r} is not plain", "use lower case letters, digits and hyphens")
    if image_names.variants_of(name) is not None:
        raise BadInput(f"{name} is the name of an image that is built here", "give yours another name")


def _kernel_of_base(images: Path) -> Kernel:
    parts = image.parts(images, image_names.BASE)
    return Kernel(parts["vmlinuz"], parts["vmlinuz"].with_name(image.BASE_INITRD), image_names.BASE)


def _refuse(bad: list[Finding]) -> None:
    if bad:
        lines = "\n".join(f"{finding.part}: {finding.text} - {finding.remedy}" for finding in bad)
        raise Refused(
            f"the image is not fit for steps:\n{lines}", "mend the root and import it anew; nothing was changed"
        )


def _take(source: Path, to: Path, limit: int) -> None:
    if not source.is_file() or source.stat().st_size > limit:
        raise BadInput(f"{source} is no file, or larger than {limit >> 20} MiB", "fix the path")
    shutil.copyfile(source, to)


def _root(source: Path, rootfs: Path) -> tuple[int, tuple[Package, ...]]:
    """Write the root; returns its date and the packages that it says it has."""
    if source.suffix == ".erofs":
        _take(source, rootfs, MAX_EROFS_BYTES)
        return 0, ()
    if not source.is_dir() and not source.is_file():
        raise BadInput(f"{source} is neither a file nor a folder", "give ROOTFS.tar, a folder, or rootfs.erofs")
    search = image.tools("mkfs.erofs")
    with image.scratch() as work:
        base = work / "root"
        base.mkdir(mode=0o700)
        made = layout.lay_out(source, base)
        # file names are a stranger's: no argument of the command comes from them
        command = [
            "mkfs.erofs",
            "-zlz4hc",
            "-x-1",
            "--all-root",
            f"-T{made.newest}",
            "--preserve-mtime",
            f"-U{NO_UUID}",
        ]
        done = subprocess.run(
            [*command, str(rootfs), str(base)],
            env={"PATH": search, "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PACK_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            raise Unavailable(f"mkfs.erofs failed: {done.stderr[-300:]}", "see that /var/tmp and the images have room")
        return made.newest, tuple(_packages(made))


def _packages(made: layout.Layout) -> Iterator[Package]:
    """By dpkg's own list; nothing for a root of another family. What makes no sense in it is left out."""
    path = made.base / DPKG
    if DPKG not in made.files or path.stat().st_size > MAX_DPKG_BYTES:
        return
    for stanza in sorted(path.read_text(errors="replace").split("\n\n")):
        fields: dict[str, str] = dict(re.findall(r"^([A-Z][A-Za-z-]*): (.*)$", stanza, re.MULTILINE))
        name, version = fields.get("Package", ""), fields.get("Version", "")
        source = _SOURCE.fullmatch(fields.get("Source", name))
        if not source or not version or not fields.get("Status", "").endswith(" installed"):
            continue
        texts = (name, version, fields.get("Architecture", ""), source[1], source[2] or version)
        if all(len(text) <= manifest.MAX_TEXT for text in texts):
            yield Package.model_validate(dict(zip(Package.model_fields, ("root", *texts), strict=True)))
