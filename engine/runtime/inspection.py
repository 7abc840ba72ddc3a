"""Is this image fit for steps? Every answer with its remedy. For `signalbox image verify` and for every import.

An image is looked at as a stranger's: its root is read, never mounted or run here; it runs in a trial VM only.
"""

from __future__ import annotations

import re
import stat
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.domain.errors import BadInput, SignalboxError
from engine.domain.ports import Ending, Hypervisor, VmTask
from engine.runtime import cpio, erofs, image, manifest
from engine.runtime.output import NoSecrets

OLDEST_PYTHON = (3, 9)
UID = 1000
FOLDERS = ("dev", "proc", "sys", "run", "tmp", "step", "etc")
PROGRAMS = {"sbin/ip": "iproute2", "bin/sh": "dash", "usr/bin/ssh": "openssh-client", "usr/bin/python3": "python3"}
""" What the agent, /init or a step with a login starts, and the Debian package that brings it. """
MAX_PASSWD = 64 << 10
MAX_INITRD = 256 << 20
SHOWN = 8

TRIAL = f"""set -e
test "$(id -u)" = {UID} && test "$HOME" = /step && cd /step && touch written
/sbin/ip address show dev lo | grep -q 127.0.0.1
ssh -V
python3 -c 'import hashlib, json, socket, ssl, sys; assert sys.version_info >= {OLDEST_PYTHON}, sys.version'
uname -r
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one look found. `remedy` says what to do when it is not well."""

    part: str
    well: bool
    text: str
    remedy: str = ""


def inspect(folder: Path) -> Iterator[Finding]:
    """Look at the image in `folder` without running any of it: digests, root, kernel, initramfs."""
    looks = {"manifest": _digests, "root": _root, "kernel": _kernel, "agent": _agent}
    for part, look in looks.items():
        try:
            yield from look(folder)
        except BadInput as error:
            yield Finding(part=part, well=False, text=str(error), remedy=error.remedy)
        except OSError as error:
            text = f"{error.filename} cannot be read: {error.strerror}"
            yield Finding(part=part, well=False, text=text, remedy=_anew(folder))


def boot(hypervisor: Hypervisor, name: str) -> Finding:
    """Boot it, and let user `step` use what steps use."""
    task = VmTask(
        id=f"trial-{uuid.uuid4()}",
        run_id="trial",
        image=name,
        argv=("/bin/sh", "-c", TRIAL),
        timeout_s=60,
        memory_mb=384,
    )
    try:
        result = hypervisor.run(task, NoSecrets(), lambda _: None)
    except SignalboxError as error:
        return Finding(part="boot", well=False, text=f"it was not booted: {error}", remedy=error.remedy)
    output = " ".join(f"{result.stdout} {result.stderr}".split())[-300:]
    if result.ending is Ending.EXITED and result.code == 0:
        return Finding(part="boot", well=True, text=f"it boots, and a step works in it ({output})")
    why = result.reason or (f"code {result.code}" if result.ending is Ending.EXITED else result.ending.value)
    remedy = "the last line says which part of the root is missing or broken"
    return Finding(part="boot", well=False, text=f"a trial step failed ({why}): {output}", remedy=remedy)


def _anew(folder: Path) -> str:
    return f"build or import {folder.name} anew"


def _digests(folder: Path) -> Iterator[Finding]:
    known = manifest.read(folder)
    wrong = [part for part in image.PARTS if known.parts.get(part) != image.file_digest(folder / part)]
    if known.name != folder.name:
        wrong.append(f"its name, {known.name}")
    yield Finding(
        part="manifest",
        well=not wrong,
        text=f"not what the manifest says: {', '.join(wrong)}"
        if wrong
        else f"{len(known.packages)} packages; the parts hash to what the manifest says",
        remedy=_anew(folder) if wrong else "",
    )


# -- the root


def _root(folder: Path) -> Iterator[Finding]:
    with erofs.opened(folder / "rootfs.erofs") as tree:
        problems = [*_programs(tree), *_folders(tree), *_account(tree), *_risen(tree)]
    yield from problems
    if not problems:
        yield Finding(part="root", well=True, text="it has what a step needs, and nothing that raises its rights")


def _bad(text: str, remedy: str) -> Finding:
    return Finding(part="root", well=False, text=text, remedy=remedy)


def _programs(tree: erofs.Tree) -> Iterator[Finding]:
    for path, package in PROGRAMS.items():
        found = tree.find(path)
        if found is None or not stat.S_ISREG(found[1].mode) or not found[1].mode & 0o001:
            yield _bad(f"/{path} is missing, or not everybody may run it", f"install {package} in it")
        elif path.endswith("python3"):
            yield from _python(found[0])


def _python(path: str) -> Iterator[Finding]:
    """By the name of the file that python3 leads to; the trial boot asks Python itself."""
    version = re.search(r"python(\d+)\.(\d+)$", path)
    if version and (int(version[1]), int(version[2])) < OLDEST_PYTHON:
        yield _bad(f"/{path} is too old", f"install Python {'.'.join(map(str, OLDEST_PYTHON))} or newer in it")


def _folders(tree: erofs.Tree) -> Iterator[Finding]:
    missing = [f"/{name}" for name in FOLDERS if name not in tree.nodes or not stat.S_ISDIR(tree.nodes[name].mode)]
    if missing:
        yield _bad(f"no folder {', '.join(missing)}: /init mounts there", f"mkdir -p {' '.join(missing)} in it")


def _account(tree: erofs.Tree) -> Iterator[Finding]:
    remedy = f"in it, run: useradd -u {UID} -m -d /step -s /bin/sh step"
    text = tree.content("etc/passwd", MAX_PASSWD) if "etc/passwd" in tree.nodes else b""
    if text is None:
        yield _bad("/etc/passwd is too large to be looked at", "keep it below 64 KiB")
        return
    rows = [line.split(":") for line in text.decode(errors="replace").splitlines()]
    ours = [row for row in rows if len(row) == 7 and row[2] == str(UID)]
    if [(row[0], row[5]) for row in ours] != [("step", "/step")]:
        yield _bad(f"/etc/passwd has no user `step` with uid {UID} and home /step, or several of that uid", remedy)


def _risen(tree: erofs.Tree) -> Iterator[Finding]:
    """Whatever would give a step more rights, or a device."""
    files = {path: node.mode for path, node in tree.nodes.items()}
    risen = sorted(f"/{path}" for path, mode in files.items() if stat.S_ISREG(mode) and mode & 0o6000)
    devices = sorted(f"/{path}" for path, mode in files.items() if stat.S_ISBLK(mode) or stat.S_ISCHR(mode))
    if risen:
        more = f" and {len(risen) - SHOWN} more" if len(risen) > SHOWN else ""
        yield _bad(
            f"setuid or setgid: {', '.join(risen[:SHOWN])}{more}", "chmod ug-s them; import a folder or tar does it"
        )
    if devices:
        yield _bad(f"devices: {', '.join(devices[:SHOWN])}", "remove them: /dev is the kernel's own in a VM")


# -- kernel and initramfs


def kernel_release(vmlinuz: Path) -> str:
    """What `uname -r` says in a VM, from the header of a bzImage. Raises BadInput for anything else.

    https://docs.kernel.org/arch/x86/boot.html: `HdrS` at 0x202; at 0x20e where the version's text begins, less 0x200.
    """
    with vmlinuz.open("rb") as file:
        head = file.read(0x10000 + 0x400)
    begin = int.from_bytes(head[0x20E:0x210], "little") + 0x200
    text = head[begin : begin + 200].split(b"\0")[0].decode(errors="replace").split(" ")[0]
    if head[0x202:0x206] != b"HdrS" or not re.fullmatch(r"\d+\.\d+[\w.+~-]*", text):
        raise BadInput(f"{vmlinuz} is no x86 Linux kernel (bzImage)", "take the vmlinuz of a Debian or Ubuntu kernel")
    return text


def _kernel(folder: Path) -> Iterator[Finding]:
    release = kernel_release(folder / "vmlinuz")
    modules = {name: found.content for name, found in _initrd(folder).items() if name.endswith(".ko")}
    others = sorted(name for name, content in modules.items() if f"vermagic={release} ".encode() not in content)
    yield Finding(
        part="kernel",
        well=bool(modules) and not others,
        text=f"modules of another kernel than {release}: {', '.join(others[:SHOWN])}"
        if others
        else f"Linux {release} with {len(modules)} modules of its own",
        remedy="" if modules and not others else "give --kernel and --initrd of one kernel, or neither",
    )


def _agent(folder: Path) -> Iterator[Finding]:
    found = _initrd(folder)
    wanted = cpio.members(image.own_initrd(image.STEP))
    other = sorted(name for name, member in wanted.items() if found.get(name) != member)
    if "bin/busybox" not in found:
        other.append("bin/busybox")
    yield Finding(
        part="agent",
        well=not other,
        text=f"not what this release has in the initramfs: {', '.join(other)}"
        if other
        else "the agent of this release",
        remedy=_anew(folder) if other else "",
    )


def _initrd(folder: Path) -> dict[str, cpio.Member]:
    path = folder / "initrd.img"
    try:
        if path.stat().st_size > MAX_INITRD:
            raise ValueError(f"larger than {MAX_INITRD >> 20} MiB")
        return cpio.members(path.read_bytes())
    except ValueError as error:
        raise BadInput(f"{path}: {error}", "its initramfs is a plain cpio archive, as `image build` makes it") from None
