"""The guest image `target`: Debian with sshd, and the service `checkout` unless a target brings its own.

Built by `make demo` and by the tests of worlds.
"""

from __future__ import annotations

from pathlib import Path

from engine.runtime import image

_GUEST = Path(__file__).parent / "guest"

TARGET = image.ImageSpec(
    name="target",
    packages=("coreutils", "findutils", "openssh-server", "procps", "python3", "util-linux"),
    modules=(*image.MODULES, "virtio_net", "ext4"),
    init=_GUEST / "init.sh",
    initrd_files={f"world.{name}": _GUEST / name for name in ("boot.sh", "checkout.py", "service.sh", "sshd_config")},
)


def build(images: Path, progress: image.Progress) -> Path:
    """Make IMAGES/target what it should be; returns the folder. Nothing is done when it is that already."""
    return image.build(TARGET, images, progress=progress)
