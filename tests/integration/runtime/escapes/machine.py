"""Ways into the host by the machine itself: disk, devices, memory, firmware, and into what other steps left."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import signal
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.integration.runtime.escapes.attempt import LIBC, TOLD, Escaped, attempt, call, each

DISK = "/dev/vda"
FIRST, SECOND = (half.encode() for half in TOLD.get("marker", ("?", "?")))
ROOM = 64 << 20
KEPT: list[mmap.mmap] = []
""" Machine code, for as long as somebody may call it. """


# -- the base image


@attempt("the base image, written", "write to /dev/vda: plainly, directly, by a node of our own")
def disk() -> str:
    os.mknod("/dev/disk", 0o60600, Path(DISK).stat().st_rdev)

    def write(path: str, flags: int) -> int:
        fd = os.open(path, flags)
        try:
            return os.pwrite(fd, mmap.mmap(-1, 4096), 0)
        finally:
            os.close(fd)

    ways = ((DISK, os.O_RDWR), (DISK, os.O_WRONLY | os.O_DIRECT | os.O_SYNC), ("/dev/disk", os.O_WRONLY))
    return each(ways, lambda way: write(*way))


@attempt("the base image, made writable", "BLKROSET to 0, then write, discard, zero out (ioctls on /dev/vda)")
def unlocked() -> str:
    fd = os.open(DISK, os.O_RDONLY)
    told = []
    for name, request, argument in (
        ("BLKROSET", 0x125D, struct.pack("i", 0)),
        ("BLKDISCARD", 0x1277, struct.pack("QQ", 0, 4096)),
        ("BLKZEROOUT", 0x127F, struct.pack("QQ", 0, 4096)),
    ):
        try:
            fcntl.ioctl(fd, request, argument)
            told.append(f"{name} accepted")
        except OSError as error:
            told.append(f"{name}: {error.strerror}")
    os.close(fd)
    return f"{', '.join(told)}; then {disk_again()}"


def disk_again() -> str:
    """Whether it can be written to now."""

    def write(_: int) -> int:
        fd = os.open(DISK, os.O_RDWR | os.O_DIRECT)
        try:
            return os.pwrite(fd, mmap.mmap(-1, 4096), 0)
        finally:
            os.close(fd)

    return each((0,), write)


def mount(source: str, kind: str, flags: int = 0, options: str = "") -> str:
    """Raises OSError."""
    target = Path("/tmp/mnt")
    target.mkdir(exist_ok=True)
    if LIBC.mount(source.encode(), str(target).encode(), kind.encode(), flags, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
        (target / "written").write_text("x")
        return "mounted and written"
    finally:
        LIBC.umount2(str(target).encode(), 2)


@attempt("the base image, mounted", "mount /dev/vda read-write, as another file system, remount the lower layer")
def mounted() -> str:
    remount = 32
    ways = ((DISK, "erofs", 0), (DISK, "ext4", 0), (DISK, "erofs", remount))
    return each(ways, lambda way: mount(*way))


@attempt("folders of the host", "mount 9p and virtiofs by usual tags, NFS and CIFS from usual hosts")
def shared() -> str:
    ways = [(tag, kind) for kind in ("9p", "virtiofs") for tag in ("host", "shared", "hostshare", "share", "root")]
    ways += [("10.0.2.2:/", "nfs4"), ("//10.0.2.4/qemu", "cifs")]
    return each(ways, lambda way: mount(way[0], way[1], 0, "trans=virtio" if way[1] == "9p" else ""))


# -- devices


@attempt(
    "devices", "look for a network card, vsock, 9p, virtiofs, a balloon, USB, graphics, sound among PCI and virtio"
)
def devices() -> str:
    forbidden = {0x1041: "net", 0x1045: "balloon", 0x1049: "9p", 0x1053: "vsock", 0x105A: "virtiofs", 0x1050: "gpu"}
    found = []
    for device in sorted(Path("/sys/bus/pci/devices").iterdir()):
        vendor, product, kind = (int((device / name).read_text(), 16) for name in ("vendor", "device", "class"))
        virtio = forbidden.get(product if product >= 0x1040 else product + 0x40) if vendor == 0x1AF4 else None
        if virtio or kind >> 16 in {0x02, 0x03, 0x04, 0x0D} or kind >> 8 == 0x0C03:
            raise Escaped(f"{device.name}: {vendor:04x}:{product:04x} class {kind:06x}")
        found.append(f"{vendor:04x}:{product:04x}")
    return f"only bridges, a disk, the port, a random source: {' '.join(sorted(set(found)))}"


@attempt("hot plug", "rescan PCI, power every slot, look for new devices, CPUs, memory")
def hot_plug() -> str:
    before = _hardware()
    for path in ("/sys/bus/pci/rescan", *map(str, Path("/sys/bus/pci/slots").glob("*/power"))):
        try:
            Path(path).write_text("1")
        except OSError:
            continue
    new = _hardware() - before
    if new:
        raise Escaped(f"new: {new}")
    return "nothing new appears"


def _hardware() -> set[str]:
    folders = ("/sys/bus/pci/devices", "/sys/bus/virtio/devices", "/sys/devices/system/cpu", "/sys/bus/memory/devices")
    return {str(path) for folder in folders if Path(folder).is_dir() for path in Path(folder).iterdir()}


@attempt("QEMU's back doors", "firmware configuration (ports 0x510) and the VMware port (0x5658), by machine code")
def back_doors() -> str:
    call(172, 3)  # iopl
    items = dict(_firmware_items())
    strange = [name for name in items if not name.startswith(("etc/", "genroms/", "bootorder", "bios-geometry"))]
    if strange or _leaks(b"".join(items.values())):
        raise Escaped(f"firmware configuration holds {strange}, {_leaks(b''.join(items.values()))}")
    vmware = _code(bytes.fromhex("53b868584d5631dbb90a000000ba58560000ed5bc3"))()
    if vmware & 0xFFFFFFFF != 0xFFFFFFFF:
        raise Escaped(f"the VMware port answers {vmware:#x}")
    return f"{len(items)} items of firmware, nothing of a step or of the host in them; nobody at the VMware port"


def _firmware_items() -> Iterator[tuple[str, bytes]]:
    select, read = _code(bytes.fromhex("89fa89f066efc3")), _code(bytes.fromhex("89fa31c0ecc3"))

    def item(number: int, size: int) -> bytes:
        select(0x510, number)
        return bytes(read(0x511) & 0xFF for _ in range(size))

    if item(0, 4) != b"QEMU":
        return
    yield "etc/cmdline", item(0x15, 400)
    (count,) = struct.unpack("!I", item(0x19, 4))
    table = item(0x19, 4 + 64 * min(count, 100))[4:]
    for at in range(0, len(table), 64):
        size, number, _, name = struct.unpack_from("!IHH56s", table, at)
        yield name.rstrip(b"\0").decode(), item(number, min(size, 2000))


def _code(machine_code: bytes) -> Callable[..., int]:
    """A function of up to two numbers."""
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(machine_code)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    function = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64)(begin)
    KEPT.append(memory)
    return lambda first=0, second=0: int(function(first, second))


@attempt(
    "what the host says to the kernel", "command line, initramfs, SMBIOS, ACPI tables, kernel log, environment of PID 1"
)
def words() -> str:
    places = [Path(path) for path in ("/proc/cmdline", "/proc/1/environ", "/proc/1/cmdline", "/proc/bootconfig")]
    places += [path for base in ("/sys/firmware", "/sys/class/dmi/id") for path in Path(base).rglob("*")]
    read = 0
    for path in places:
        try:
            leaks = _leaks(path.read_bytes()) if path.is_file() else []
        except OSError:
            continue
        read += 1
        if leaks:
            raise Escaped(f"{path} holds {leaks}")
    buffer = ctypes.create_string_buffer(1 << 20)
    size = LIBC.klogctl(3, buffer, len(buffer))
    if leaks := _leaks(buffer.raw[: max(0, size)]):
        raise Escaped(f"the kernel's log holds {leaks}")
    initramfs = [name for name in ("/init", "/m", "/agent", "/dev/initrd") if Path(name).exists()]
    if initramfs:
        raise Escaped(f"of the initramfs there is {initramfs}")
    return f"{read} places read: nothing of a step, its secrets, its run or the host in them"


def _leaks(data: bytes) -> list[str]:
    return [word for word in TOLD["never told"] if word.encode() in data]


# -- what others left


@attempt("another step's files", "search every file of this VM for what two other VMs wrote everywhere")
def files_of_others() -> str:
    count = 0
    for base in ("/tmp", "/step", "/run", "/dev/shm", "/var", "/root", "/home", "/etc", "/opt", "/srv", "/mnt"):
        for folder, _, names in os.walk(base):
            for name in names:
                path = Path(folder, name)
                if path.is_file() and not path.is_symlink():
                    count += 1
                    _look(path.read_bytes(), str(path))
    disk_fd = os.open(DISK, os.O_RDONLY)
    for at in range(0, os.lseek(disk_fd, 0, os.SEEK_END), ROOM):
        _look(os.pread(disk_fd, ROOM, at), DISK)
    return f"{count} files and the whole disk read: nothing"


@attempt("another step's memory", "search all physical memory of this VM (/proc/kcore), the agent's too")
def memory_of_others() -> str:
    searched = 0
    with Path("/proc/kcore").open("rb", buffering=0) as core:
        header = core.read(64)
        start, size, count = (*struct.unpack_from("<Q", header, 32), *struct.unpack_from("<HH", header, 54))
        core.seek(start)
        table = core.read(size * count)
        for number in range(count):
            kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", table, number * size)
            if kind != 1 or length > 1 << 29:  # the direct map is as long as the memory
                continue
            for at in range(offset, offset + length, ROOM):
                core.seek(at)
                piece = core.read(min(ROOM, offset + length - at))
                searched += len(piece)
                _look(piece, "memory")
    if searched < 200 << 20:
        raise ValueError(f"only {searched >> 20} MB could be read")
    return f"{searched >> 20} MB searched: nothing"


def _look(data: bytes, where: str) -> None:
    """Raises Escaped for the marker; its halves are never joined here, or this would find itself."""
    at = data.find(FIRST)
    while at >= 0:
        if data[at + len(FIRST) : at + len(FIRST) + len(SECOND)] == SECOND:
            raise Escaped(f"the marker of another VM is in {where}")
        at = data.find(FIRST, at + 1)


# -- the agent and the kernel


@attempt("signals to the agent", "SIGKILL, SIGSTOP, SIGTERM, SIGSEGV to PID 1")
def signals() -> str:
    for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGSEGV, signal.SIGKILL):
        os.kill(1, number)
    time.sleep(0.2)
    state = next(line for line in Path("/proc/1/status").read_text().splitlines() if line.startswith("State"))
    return f"PID 1 goes on ({state.split()[1]})"


@attempt(
    "another kernel",
    "kexec_file_load of what is no kernel (one that is would meet the same devices); write to /dev/mem",
)
def kexec() -> str:
    fd = os.open("/proc/self/exe", os.O_RDONLY)
    memory = os.open("/dev/mem", os.O_RDWR)

    def poke(address: int) -> int:
        return os.pwrite(memory, b"\0" * 8, address)

    loaded = each(("rubbish",), lambda _: call(320, fd, fd, 1, b"\0", 0))
    return f"{loaded}; memory: {each((64 << 20, 1 << 40), poke)}"


@attempt("the clock", "set the system's clock and the RTC to 2099")
def clock() -> str:
    real, year_2099 = time.clock_gettime(time.CLOCK_REALTIME), 4_080_000_000.0
    time.clock_settime(time.CLOCK_REALTIME, year_2099)
    told = f"this VM believes {time.gmtime().tm_year}"
    fd = os.open("/dev/rtc0", os.O_RDONLY)
    try:
        fcntl.ioctl(fd, 0x4024700A, struct.pack("9i", 0, 0, 0, 1, 0, 199, 0, 0, 0))
        told += ", its RTC too"
    except OSError as error:
        told += f"; RTC: {error.strerror}"
    finally:
        os.close(fd)
        time.clock_settime(time.CLOCK_REALTIME, real)
    return told
