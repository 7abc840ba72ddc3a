"""Guest images: what a VM boots. Built by one command, hashed before every use. For the CLI, the hypervisor, the demo.

An image is a folder IMAGES/NAME with `vmlinuz`, `initrd.img`, `rootfs.erofs` (what is booted), `SHA256SUMS`,
`manifest.json` (what is inside: `engine.runtime.manifest`), and what a later build needs: `initrd-base.img`,
`fingerprint`. The same package versions give the same bytes, whoever builds, where and when.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from engine.domain import digest, image_names
from engine.domain.errors import BadInput, Unavailable
from engine.runtime import cpio, manifest, namespace
from engine.runtime.manifest import Manifest

GUEST = Path(__file__).parent / "guest"
BUILD = GUEST / "build-image.sh"
AGENT = {f"agent/engine/runtime/guest/{name}.py": GUEST / f"{name}.py" for name in ("agent", "doors", "limits", "wire")}
PARTS = ("vmlinuz", "initrd.img", "rootfs.erofs")
TOOLS = {"mmdebstrap": "mmdebstrap", "mkfs.erofs": "erofs-utils", "cpio": "cpio", "modprobe": "kmod"}
BASE_INITRD = "initrd-base.img"
KEPT = ("vmlinuz", "rootfs.erofs", BASE_INITRD, manifest.FILE)
""" What a new initramfs leaves as it is. """
SCRATCH = Path("/var/tmp")  # noqa: S108 - what we make there is made by tempfile
SCRATCH_PREFIX = "signalbox-image-"
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
    `setup`: a shell script run inside the root at the end (accounts, host-independent configuration). `variants`: what
    the manifest says of it.
    A user `step` (uid 1000, home /step) is always there.
    """

    name: str
    packages: tuple[str, ...] = PACKAGES
    modules: tuple[str, ...] = MODULES
    init: Path = GUEST / "init"
    initrd_files: Mapping[str, Path] = field(default_factory=lambda: AGENT)
    root_files: Mapping[str, bytes] = field(default_factory=dict)
    setup: str = ""
    variants: tuple[str, ...] = ()


STEP = ImageSpec(name=image_names.BASE)
Progress = Callable[[str], None]


def spec_of(name: str) -> ImageSpec:
    """The base `step`, or it with variants. Raises BadInput for a name that `image build` has no recipe for."""
    variants = image_names.variants_of(name)
    if variants is None:
        raise BadInput(
            f"there is no recipe for an image {name}",
            f"known: {', '.join(image_names.built_here())}; for a root of your own: signalbox image import",
        )
    added = tuple(package for variant in variants for package in image_names.VARIANTS[variant])
    return ImageSpec(name=name, packages=PACKAGES + added, variants=variants)


def build(spec: ImageSpec, images: Path, *, progress: Progress, force: bool = False) -> Path:
    """Make IMAGES/NAME what `spec` says; returns the folder. Nothing is done when it is that already.

    A change of init or agent only repacks the initramfs (under a second); anything else rebuilds the root (a minute or
    two, from this machine's apt sources). The new folder replaces the old one when it is complete; VMs that run keep
    theirs. Raises Unavailable with the reason when a tool is missing or the build fails.
    """
    folder = images / spec.name
    new = {"root": _root_fingerprint(spec), "initrd": _initrd_fingerprint(spec)}
    if not force and _fingerprints(folder) == new:  # asked without the lock: whoever only reads the folder may ask too
        progress(f"image {spec.name}: up to date in {folder}")
        return folder
    with only_builder(images, progress):
        old = {} if force else _fingerprints(folder)
        if old == new:
            progress(f"image {spec.name}: built meanwhile in {folder}")
            return folder
        with replacing(folder) as fresh:
            if old.get("root") == new["root"]:
                progress(f"image {spec.name}: repacking the initramfs")
                for part in KEPT:
                    # the bytes only: libvirt notes in attributes who uses the old file, and would believe that here
                    shutil.copyfile(folder / part, fresh / part)
                made = manifest.read(fresh)
            else:
                progress(f"image {spec.name}: building the root")
                made = _build_root(spec, fresh, progress)
            (fresh / "fingerprint").write_text("".join(f"{name} {value}\n" for name, value in new.items()))
            finish(fresh, made, own_initrd(spec))
        progress(f"image {spec.name}: ready in {folder}")
        return folder


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty folder to make an image in, which takes the place of `folder` if nothing goes wrong. For `only_builder`.

    Both stand in a scratch folder beside it that QEMU's user may enter, so that what is new can be tried before.
    """
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        Path(scratch).chmod(0o755)
        fresh = Path(scratch, folder.name)
        fresh.mkdir()
        yield fresh
        if folder.exists():
            folder.rename(Path(scratch, "old"))
        fresh.rename(folder)


def finish(fresh: Path, made: Manifest, own: bytes) -> None:
    """Add what is ours to a new image: the whole initramfs, the manifest with its digests, SHA256SUMS."""
    (fresh / "initrd.img").write_bytes((fresh / BASE_INITRD).read_bytes() + own)
    digests = {part: file_digest(fresh / part) for part in PARTS}
    manifest.write(fresh, made.model_copy(update={"parts": digests}))
    (fresh / "SHA256SUMS").write_text("".join(f"{value[7:]}  {part}\n" for part, value in digests.items()))
    fresh.chmod(0o755)
    for file in fresh.iterdir():
        file.chmod(0o644)


def image_digest(images: Path, name: str) -> str:
    """The digest of what would be booted now, from the files themselves. Raises BadInput when one is missing."""
    return digest.of_value({part: file_digest(path) for part, path in parts(images, name).items()})


def parts(images: Path, name: str) -> dict[str, Path]:
    """The files that a VM boots. Raises BadInput with the command that builds them."""
    if not image_names.NAME.fullmatch(name):
        raise BadInput(f"image name {name[:60]!r} is not plain", "use lower case letters, digits and hyphens")
    found = {part: images.absolute() / name / part for part in PARTS}
    missing = [str(path) for path in found.values() if not path.is_file()]
    if missing:
        raise BadInput(f"no image {name!r}: {missing[0]} is not there", f"run: {image_names.how_to_get(name)}")
    return found


def signature(files: Mapping[str, Path]) -> str:
    """What tells whether any of the files was replaced or written to, without reading them. Raises BadInput.

    The time of the last change of the inode is not part of it: libvirt notes in attributes who uses a disk.
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


def may_change(path: Path, uid: int, gids: frozenset[int]) -> bool:
    """Whether this user could write to a file, or put another in the place of what lies in a folder."""
    status = path.stat()
    if uid == 0 or status.st_uid == uid:  # an owner may give himself the right
        return True
    if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
        return False
    bits = status.st_mode >> 3 if status.st_gid in gids else status.st_mode
    return bool(bits & os.W_OK)


def file_digest(path: Path) -> str:
    """The digest of a file's bytes."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def only_builder(images: Path, progress: Progress) -> Iterator[None]:
    """Whoever changes the folder of images does it alone; another waits."""
    try:
        images.mkdir(parents=True, exist_ok=True)
        opened = (images / ".lock").open("w")
    except OSError as error:
        remedy = "do it as whoever owns that folder; or set SIGNALBOX_IMAGES to one of your own"
        raise Unavailable(f"{images} cannot be written: {error.strerror}", remedy) from None
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            progress("another build is running; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _root_fingerprint(spec: ImageSpec) -> str:
    return digest.of_value(
        {
            "script": file_digest(BUILD),
            "packages": sorted(spec.packages),
            "modules": list(spec.modules),
            "files": {path: digest.of_bytes(content) for path, content in spec.root_files.items()},
            "setup": spec.setup,
            "release": platform.freedesktop_os_release().get("VERSION_CODENAME", ""),
        }
    )


def _initrd_fingerprint(spec: ImageSpec) -> str:
    return digest.of_bytes(own_initrd(spec))


def _fingerprints(folder: Path) -> dict[str, str]:
    """What the folder was built from; empty when anything of it is missing."""
    try:
        lines = (folder / "fingerprint").read_text().splitlines()
        complete = all((folder / part).is_file() for part in (*PARTS, *KEPT))
        return dict(line.split(" ", 1) for line in lines) if complete else {}
    except (OSError, ValueError):
        return {}


def own_initrd(spec: ImageSpec) -> bytes:
    """What is ours in the initramfs: /init and the agent."""
    members = {name: cpio.Member(path.read_bytes()) for name, path in spec.initrd_files.items()}
    return cpio.archive(members | {"init": cpio.Member(spec.init.read_bytes(), 0o755)})


def tools(*wanted: str) -> str:
    """The PATH on which these programs are found; raises Unavailable naming the package of the first that is not."""
    search = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    for tool in wanted:
        if shutil.which(tool, path=search) is None:
            raise Unavailable(f"{tool} is not installed", f"run: apt-get install {TOOLS[tool]}")
    return search


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder to lay a root out in. In /var/tmp, not beside the images: a user namespace must be able to enter every
    folder above it. Locked while it is used: `image gc` takes one that nobody holds."""
    with tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX, dir=SCRATCH) as made:
        descriptor = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield Path(made)
        finally:
            os.close(descriptor)


def _build_root(spec: ImageSpec, fresh: Path, progress: Progress) -> Manifest:
    search = tools(*TOOLS)
    namespace.check(search)
    with scratch() as work:
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
    notes = {name: fresh / name for name in ("packages.tsv", "epoch", "kernel")}
    made = Manifest(
        name=spec.name,
        origin="built",
        variants=spec.variants,
        kernel=notes["kernel"].read_text().strip(),
        release=platform.freedesktop_os_release()["PRETTY_NAME"],
        tools=tool_versions(),
        epoch=int(notes["epoch"].read_text()),
        packages=manifest.packages(notes["packages.tsv"].read_text().splitlines()),
        parts={},
    )
    for note in notes.values():
        note.unlink()
    return made


def tool_versions() -> dict[str, str]:
    """Debian's versions of the programs that shape an image's bytes."""
    command = ["dpkg-query", "-W", "--showformat=${Package} ${Version}\n", *sorted(set(TOOLS.values()))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


def _lay_out(files: Mapping[str, bytes], base: Path) -> str:
    for name, content in files.items():
        path = base / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755 if content.startswith(b"#!") else 0o644)
    for folder in (base, *base.rglob("*")) if files else ():
        if folder.is_dir():
            folder.chmod(0o755)  # whatever the builder's umask is
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
