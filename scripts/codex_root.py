#!/usr/bin/env python3
"""The root of an image with the Codex CLI: `codex_root.py TARBALL ROOTFS TO`, then `signalbox image import codex TO`.

TARBALL is what `npm pack @openai/codex@VERSION-linux-x64` gives: a static program, nothing of it is run here. ROOTFS is
the rootfs.erofs of the image `step`, to which it is added; TO is a folder that is not there yet.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path, PurePosixPath

WITHIN = PurePosixPath("package/vendor/x86_64-unknown-linux-musl")
TAKEN = ("bin/codex", "codex-path/rg", "codex-package.json")
""" Without its sandbox, its voice, and its host for code of a provider's. """

PLACE = "usr/local/lib/codex"


def make(tarball: Path, rootfs: Path, to: Path) -> None:
    """Write the folder. Raises KeyError for a tarball without the program, CalledProcessError, OSError."""
    to.mkdir(parents=True)
    subprocess.run(["fsck.erofs", f"--extract={to}", "--overwrite", str(rootfs)], check=True, capture_output=True)
    with tarfile.open(tarball, "r:gz") as packed:
        for name in TAKEN:
            source = packed.extractfile(str(WITHIN / name))
            if source is None:
                raise KeyError(f"{name} is no regular file in {tarball}")
            target = to / PLACE / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with source, target.open("wb") as file:
                while piece := source.read(1 << 20):
                    file.write(piece)
            target.chmod(0o755)
    (to / "usr/local/bin/codex").symlink_to("../lib/codex/bin/codex")


def main() -> int:
    """The command line."""
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        make(*map(Path, sys.argv[1:]))
    except subprocess.CalledProcessError as error:
        print(f"fsck.erofs: {error.stderr.decode(errors='replace')[-300:]}", file=sys.stderr)
        return 1
    except (KeyError, OSError, tarfile.TarError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
