"""Guest images: what a VM boots. Built by one command, hashed before every use. For the CLI, the hypervisor, the demo.

An image is a folder IMAGES/NAME with `vmlinuz`, `initrd.img`, `rootfs.erofs` (what is booted), `SHA256SUMS`,
`manifest.txt` (the Debian packages inside), and what a later build needs: `initrd-base.img`, `fingerprint`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from engine.domain import digest
from engine.domain.errors import BadInput, Unavailable
from engine.runtime import cpio

GUEST = Path(__file__).parent / "guest"
BUILD = GUEST / "build-image.sh"
AGENT = {f"agent/engine/runtime/guest/{name}.py": GUEST / f"{name}.py" for name in ("agent", "doors", "wire")}
PARTS = ("vmlinuz", "initrd.img", "rootfs.erofs")
TOOLS = {"mmdebstrap": "mmdebstrap", "mkfs.erofs": "erofs-utils", "cpio": "cpio", "modprobe": "kmod"}
BUILD_TIMEOUT_S = 1800

PACKAGES = (
    "bash",
    "ca-certificates",
    "coreutils",
    "curl",
    "git",
    "iproute2",
    "jq",
    "openssh-client",
    "procps",
    "python3",
    "util-linux",
)
MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "virtio-rng", "overlay", "erofs")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    """What goes into an image.

    `init`: the file that becomes /init of the initramfs; it must insmod /m/*.ko itself. `initrd_files`: further files
    there (name -> file). `root_files`: absolute path in the root -> content; scripts (#!) become executable.
    `setup`: a shell script run inside the root at the end (accounts, host-independent configuration).
    A user `step` (uid 1000, home /step) is always there.
    """

    name: str
    packages: tuple[str, ...] = PACKAGES
    modules: tuple[str, ...] = MODULES
    init: Path = GUEST / "init"
    initrd_files: Mapping[str, Path] = field(default_factory=lambda: AGENT)
    root_files: Mapping[str, bytes] = field(default_factory=dict)
    setup: str = ""


STEP = ImageSpec(name="step")
Progress = Callable[[str], None]


def build(spec: ImageSpec, images: Path, *, progress: Progress, force: bool = False) -> Path:
    """Make IMAGES/NAME what `spec` says; returns the folder. Nothing is done when it is that already.

    A change of init or agent only repacks the initramfs (under a second); anything else rebuilds the root (a minute or
    two, from this machine's apt sources). The new folder replaces the old one when it is complete; VMs that run keep
    theirs. Raises Unavailable with the reason when a tool is missing or the build fails.
    """
    images.mkdir(parents=True, exist_ok=True)
    with _only_builder(images, progress):
        folder = images / spec.name
        old = {} if force else _fingerprints(folder)
        new = {"root": _root_fingerprint(spec), "initrd": _initrd_fingerprint(spec)}
        if old == new:
            progress(f"image {spec.name}: up to date in {folder}")
            return folder
        with tempfile.TemporaryDirectory(prefix=f".{spec.name}-", dir=images) as scratch:
            fresh = Path(scratch, spec.name)
            fresh.mkdir()
            if old.get("root") == new["root"]:
                progress(f"image {spec.name}: repacking the initramfs")
                for part in ("vmlinuz", "rootfs.erofs", "initrd-base.img", "manifest.txt"):
                    # the bytes only: libvirt notes in attributes who uses the old file, and would believe that here
                    shutil.copyfile(folder / part, fresh / part)
            else:
                progress(f"image {spec.name}: building the root")
                _build_root(spec, fresh, progress)
            _finish(spec, fresh, new)
            _replace(folder, fresh, Path(scratch, "old"))
        progress(f"image {spec.name}: ready in {folder}")
        return folder


def image_digest(images: Path, name: str) -> str:
    """The digest of what would be booted now, from the files themselves. Raises BadInput when one is missing."""
    return digest.of_value({part: _file_digest(path) for part, path in parts(images, name).items()})


def parts(images: Path, name: str) -> dict[str, Path]:
    """The files that a VM boots. Raises BadInput with the command that builds them."""
    if not name.replace("-", "").replace("_", "").isalnum():
        raise BadInput(f"image name {name!r} is not plain", "use letters, digits, - and _")
    found = {part: images.absolute() / name / part for part in PARTS}
    missing = [str(path) for path in found.values() if not path.is_file()]
    if missing:
        raise BadInput(f"no image {name!r}: {missing[0]} is not there", f"run: signalbox image build {name}")
    return found


def signature(files: Mapping[str, Path]) -> str:
    """What tells whether any of the files was replaced or written to, without reading them. Raises BadInput.

    The time of the last change of the inode is not part of it: libvirt gives kernel and initrd to QEMU's user and back.
    """
    try:
        stats = [path.stat() for path in files.values()]
    except OSError as error:
        raise BadInput(f"an image changes just now: {error}", "try again when it is built") from None
    return digest.of_value([[s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns] for s in stats])


def check_readable(files: Mapping[str, Path], uid: int, gid: int) -> None:
    """Raise BadInput naming the first folder or file that QEMU's user (system mode) cannot enter or read."""
    gids = _groups(uid, gid)
    for file in files.values():
        for path in (*reversed(file.parents), file):
            needed = os.R_OK if path == file else os.X_OK
            if not _may(path, uid, gids, needed):
                what = "be read" if path == file else "be entered"
                raise BadInput(
                    f"{path} cannot {what} by QEMU's user (uid {uid})",
                    "keep images where it can: SIGNALBOX_IMAGES=/var/lib/signalbox/images, "
                    "then build them anew: signalbox image build step",
                )


def _groups(uid: int, gid: int) -> frozenset[int]:
    try:
        return frozenset(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
    except KeyError:
        return frozenset({gid})


def _may(path: Path, uid: int, gids: frozenset[int], needed: int) -> bool:
    if uid == 0:
        return True
    status = path.stat()
    if status.st_uid == uid:
        return bool(status.st_mode >> 6 & needed)
    if status.st_gid in gids:
        return bool(status.st_mode >> 3 & needed)
    return bool(status.st_mode & needed)


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _only_builder(images: Path, progress: Progress) -> Iterator[None]:
    with (images / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            progress("another build is running; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _root_fingerprint(spec: ImageSpec) -> str:
    return digest.of_value(
        {
            "script": _file_digest(BUILD),
            "packages": sorted(spec.packages),
            "modules": list(spec.modules),
            "files": {path: digest.of_bytes(content) for path, content in spec.root_files.items()},
            "setup": spec.setup,
            "release": platform.freedesktop_os_release().get("VERSION_CODENAME", ""),
        }
    )


def _initrd_fingerprint(spec: ImageSpec) -> str:
    return digest.of_bytes(_own_initrd(spec))


def _fingerprints(folder: Path) -> dict[str, str]:
    """What the folder was built from; empty when anything of it is missing."""
    try:
        lines = (folder / "fingerprint").read_text().splitlines()
        complete = all((folder / part).is_file() for part in (*PARTS, "initrd-base.img", "manifest.txt"))
        return dict(line.split(" ", 1) for line in lines) if complete else {}
    except (OSError, ValueError):
        return {}


def _own_initrd(spec: ImageSpec) -> bytes:
    members = {name: cpio.Member(path.read_bytes()) for name, path in spec.initrd_files.items()}
    return cpio.archive(members | {"init": cpio.Member(spec.init.read_bytes(), 0o755)})


def _finish(spec: ImageSpec, fresh: Path, fingerprints: Mapping[str, str]) -> None:
    (fresh / "initrd.img").write_bytes((fresh / "initrd-base.img").read_bytes() + _own_initrd(spec))
    sums = [f"{_file_digest(fresh / part).removeprefix('sha256:')}  {part}\n" for part in PARTS]
    (fresh / "SHA256SUMS").write_text("".join(sums))
    (fresh / "fingerprint").write_text("".join(f"{name} {value}\n" for name, value in fingerprints.items()))
    fresh.chmod(0o755)
    for file in fresh.iterdir():
        file.chmod(0o644)


def _replace(folder: Path, fresh: Path, aside: Path) -> None:
    if folder.exists():
        folder.rename(aside)
    fresh.rename(folder)


def _build_root(spec: ImageSpec, fresh: Path, progress: Progress) -> None:
    search = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    for tool, package in TOOLS.items():
        if shutil.which(tool, path=search) is None:
            raise Unavailable(f"{tool} is not installed", f"run: apt-get install {package}")
    # In /var/tmp, not beside the images: a user namespace must be able to enter every folder above it.
    with tempfile.TemporaryDirectory(prefix="signalbox-image-", dir="/var/tmp") as scratch:
        work = Path(scratch)
        environment = {
            **os.environ,
            "PATH": search,
            "OUT": str(fresh),
            "WORK": str(work),
            "PACKAGES": ",".join(sorted(spec.packages)),
            "MODULES": " ".join(spec.modules),
            "FILES": _lay_out(spec.root_files, work / "files"),
            "SETUP": _setup_script(spec.setup, work / "setup"),
        }
        _run_builder(environment, progress)


def _lay_out(files: Mapping[str, bytes], base: Path) -> str:
    for name, content in files.items():
        path = base / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755 if content.startswith(b"#!") else 0o644)
    return str(base) if files else ""


def _setup_script(text: str, path: Path) -> str:
    if not text:
        return ""
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def _run_builder(environment: Mapping[str, str], progress: Progress) -> None:
    command = ["timeout", "--kill-after=10", str(BUILD_TIMEOUT_S), "bash", str(BUILD)]
    last: list[str] = []
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        for line in process.stdout or ():
            text = line.rstrip()
            last = [*last[-9:], text]
            if text.startswith(("==>", "I: ", "W: ", "E: ")) and "hook" not in text:
                progress(text)
    if process.returncode != 0:
        raise Unavailable("the image could not be built:\n" + "\n".join(last), "mend the cause and build again")
