"""Guest images of targets: Debian with sshd, and the service `checkout` unless a target brings its own.

`target` is built by `make demo` and by the tests of worlds; `target-postgres` for a service that keeps a database.
"""

from __future__ import annotations

from dataclasses import replace
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

# An empty cluster lies ready in /var/lib/cluster, which belongs to whoever runs the service (uid 900): an emulated CPU
# would be long about it. It has a random name, so these bytes differ from build to build: no run is bound to them. What
# changes there is kept in memory, as everywhere above the read-only root.
_CLUSTER = """\
#!/bin/sh
set -eu
rm -rf /var/lib/postgresql/* /etc/postgresql/*
install -d -o postgres -g postgres /var/lib/cluster /var/lib/cluster/run
cd /
setpriv --reuid=postgres --regid=postgres --clear-groups "$(echo /usr/lib/postgresql/*/bin)/initdb" \
  -D /var/lib/cluster/data -U postgres -A reject -E UTF8 --locale=C.UTF-8 --wal-segsize=1 >/dev/null
chown -R 900:900 /var/lib/cluster
"""
POSTGRES = replace(
    TARGET, name="target-postgres", packages=(*TARGET.packages, "postgresql", "python3-psycopg2"), setup=_CLUSTER
)


def build(images: Path, progress: image.Progress, spec: image.ImageSpec = TARGET) -> Path:
    """Make IMAGES/NAME what it should be; returns the folder. Nothing is done when it is that already."""
    return image.build(spec, images, progress=progress)
