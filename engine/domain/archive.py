"""Artefacts as canonical tar: equal files give equal bytes, so an artefact is known by its digest. For runners, gates.

Canonical: pax, sorted paths, regular files only, mode 0644, no owner, no time. Whatever else comes in is refused.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import PurePosixPath

from engine.domain.errors import BadInput, TooLarge

MAX_BYTES = 16 << 20
MAX_FILES = 1000
MAX_PATH = 200


def is_safe(path: str) -> bool:
    """Whether this is a plain relative path that stays where it is unpacked."""
    return (
        0 < len(path) <= MAX_PATH
        and path.isprintable()
        and not path.startswith("/")
        and str(PurePosixPath(path)) == path
        and not {"..", "."} & set(PurePosixPath(path).parts)
        and all(len(part.encode()) <= 255 for part in PurePosixPath(path).parts)
    )


def check_absolute(path: str) -> None:
    """Raise BadInput unless this is an absolute path without detours."""
    if not path.startswith("/") or not is_safe(path[1:]):
        raise BadInput(f"{path!r} is not a plain absolute path", "name the file without .. and without odd characters")


def pack(files: Mapping[str, bytes]) -> bytes:
    """The canonical tar. Raises BadInput for a path that may not be, TooLarge over the limits."""
    _check(files)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(files):
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(files[path]), 0o644
            tar.addfile(info, io.BytesIO(files[path]))
    return out.getvalue()


def unpack(data: bytes) -> dict[str, bytes]:
    """The files of an archive that `pack` made. Raises BadInput for anything that is not exactly such an archive."""
    if len(data) > 2 * MAX_BYTES:
        raise TooLarge("the artefact is too large", f"keep it under {MAX_BYTES >> 20} MiB")
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for member in tar:
                plain = member.isreg() and not member.issparse() and member.size <= len(data)
                content = tar.extractfile(member) if plain else None
                if content is None or member.name in files:
                    raise BadInput(f"the artefact holds {member.name!r}, which is no plain file", "produce it anew")
                files[member.name] = content.read()
    except (tarfile.TarError, EOFError, ValueError, OSError) as error:
        raise BadInput(f"the artefact is no archive: {error}", "produce it anew") from None
    if pack(files) != data:
        raise BadInput("the artefact is not in canonical form", "produce it anew")
    return files


def _check(files: Mapping[str, bytes]) -> None:
    if len(files) > MAX_FILES or sum(map(len, files.values())) > MAX_BYTES:
        raise TooLarge("the artefact is too large", f"keep it under {MAX_FILES} files and {MAX_BYTES >> 20} MiB")
    for path in files:
        if not is_safe(path):
            raise BadInput(f"{path!r} may not be in an artefact", "use plain relative paths")
        if any(str(parent) in files for parent in PurePosixPath(path).parents):
            raise BadInput(f"{path!r} lies below a file", "use a folder or a file, not both")
