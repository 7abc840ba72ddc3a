"""The agent of a step VM: PID 1, standard library only, one virtio-serial port, no network card.

It does what the host's `engine.runtime.channel` asks and nothing by itself: set-up, files, one command, its output,
the files it leaves. When the host goes away the VM ends: at once, or after its command where that must not be cut off.
Only a VM that was told to rest, before any set-up, waits for the next host: so it is saved, and its clones wake up.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.runtime.guest.doors import Doors
from engine.runtime.guest.limits import Limits
from engine.runtime.guest.wire import CHUNK, HEADER, PORT, PROXY_PORT, VERSION, Kind, Line, Stream, find_port

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
UID = 1000
LONGEST_REST_S = 120  # of running time: a clone that nobody calls on ends itself


class Machine:
    """What only a real VM can do. Tests that run this agent as a plain process put something harmless here."""

    root = Path("/")  # where the paths of requests begin

    def __init__(self) -> None:
        self._limits = Limits()

    def ready(self) -> None:
        """The step's disk and cgroup; bring up the loopback interface (SIOCSIFFLAGS, up | loopback | running)."""
        self._limits.begin()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            fcntl.ioctl(s, 0x8914, struct.pack("16sH14x", b"lo", 0x1 | 0x8 | 0x40))

    def set_up(self, seed: bytes, now: float, boot_id: str, machine_id: str, hostname: str) -> None:
        """Entropy (RNDADDENTROPY, then RNDRESEEDCRNG), the clock, an identity of our own."""
        with Path("/dev/urandom").open("rb+", buffering=0) as random:
            fcntl.ioctl(random, 0x40085203, struct.pack("ii", len(seed) * 8, len(seed)) + seed)
            fcntl.ioctl(random, 0x5207)
        time.clock_settime(time.CLOCK_REALTIME, now)
        Path("/run/signalbox/boot_id").write_text(boot_id + "\n")
        bind = 4096
        ctypes.CDLL(None).mount(b"/run/signalbox/boot_id", b"/proc/sys/kernel/random/boot_id", None, bind, None)
        Path("/etc/machine-id").write_text(machine_id + "\n")
        socket.sethostname(hostname)

    def name(self, address: str, host: str) -> None:
        """Make `host` mean this loopback address; an address that is its own name is added to `lo`."""
        if address != host:
            with Path("/etc/hosts").open("a") as hosts:
                hosts.write(f"{address} {host}\n")
        elif not address.startswith("127."):
            bits = "/128" if ":" in address else "/32"
            subprocess.run(["/sbin/ip", "addr", "add", address + bits, "dev", "lo"], check=True)

    def user(self) -> dict[str, Any]:
        """Whom a command runs as, in the words of subprocess.Popen."""
        return {"user": UID, "group": UID, "extra_groups": []}

    def limit(self, processes: int, disk_mb: int) -> None:
        self._limits.set(processes, disk_mb)

    def exceeded(self) -> list[str]:
        """Which limits the command met."""
        return self._limits.exceeded()

    def start(self, argv: list[str], **how: Any) -> subprocess.Popen[bytes]:
        """Start a command: it is counted from its first moment."""
        return self._limits.inside(lambda: subprocess.Popen(argv, **how))

    def own(self, fd: int) -> None:
        os.fchown(fd, UID, UID)

    def own_folder(self, path: Path) -> None:
        os.chown(path, UID, UID)

    def end_stragglers(self, group: int) -> None:
        """Whatever the command left running: nothing may write while its files are collected."""
        if os.getpid() == 1:  # -1 means everything but ourselves; never outside a VM
            os.kill(-1, signal.SIGKILL)
        else:
            os.killpg(group, signal.SIGKILL)

    def power_off(self) -> None:
        Path("/proc/sysrq-trigger").write_text("o")


class Agent:
    """Answers the host's frames, one thread for reading, more for whatever takes time."""

    def __init__(self, line: Line, machine: Machine) -> None:
        self._line, self._machine = line, machine
        self._streams: dict[int, Stream] = {}
        self._commands: dict[int, int] = {}  # stream -> pid
        self._doors = Doors(line, self._streams)
        self._env: dict[str, str] = {}
        self._dies_alone = True
        self._rests = self._set = False
        self._exits: dict[int, int] = {}
        self._born = 0  # how many commands were started
        self._exited = threading.Condition()
        self._answers: dict[int, Callable[[int, bytes], None]] = {
            Kind.PING: self._ping,
            Kind.REST: self._rest,
            Kind.SETUP: self._set_up,
            Kind.PUT: self._put,
            Kind.EXEC: self._exec,
            Kind.STDIN: self._data,
            Kind.DATA: self._data,
            Kind.EOF: self._eof,
            Kind.KILL: self._kill,
            Kind.COLLECT: self._collect,
            Kind.OPENED: self._opened,
            Kind.WINDOW: self._window,
            Kind.CLOSE: self._close,
        }

    def serve(self) -> None:
        """Until the host leaves. Then: end with it, or let a running command finish first."""
        self._machine.ready()
        threading.Thread(target=self._reap, daemon=True).start()
        self._listen()
        while self._rests:
            self._listen(self._end_after(LONGEST_REST_S))
        self._alone()

    def _listen(self, forgotten: threading.Timer | None = None) -> None:
        """Greet the host as soon as there is one, and answer it until it leaves."""
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        self._line.send(Kind.HELLO, 0, {"version": VERSION, "uptime": uptime})
        if forgotten is not None:
            forgotten.cancel()
        with contextlib.suppress(EOFError):
            while True:
                kind, number, length = HEADER.unpack(self._line.read(HEADER.size))
                self._answer(kind, number, self._line.read(length))

    def _answer(self, kind: int, number: int, payload: bytes) -> None:
        try:
            self._answers[kind](number, payload)
        except Exception as error:  # noqa: BLE001 - a bad request must not end PID 1; the host hears of it
            self._line.send(Kind.ERR, number, {"error": f"{type(error).__name__}: {error}"})

    def _alone(self) -> None:
        self._line.alone = True
        for stream in list(self._streams.values()):
            stream.kill()
        if not self._dies_alone:
            with self._exited:
                self._exited.wait_for(lambda: not self._commands)
        self._machine.power_off()

    def _thread(self, target: Callable[..., None], *args: Any) -> threading.Thread:
        thread = threading.Thread(target=target, args=args, daemon=True)
        thread.start()
        return thread

    def _at(self, path: str) -> Path:
        return self._machine.root / path.lstrip("/")

    def _end_after(self, seconds: float) -> threading.Timer:
        """A VM that everybody forgot ends by itself."""
        timer = threading.Timer(seconds, self._machine.power_off)
        timer.daemon = True
        timer.start()
        return timer

    # -- set-up

    def _ping(self, number: int, _: bytes) -> None:
        self._line.send(Kind.OK, number)

    def _rest(self, number: int, _: bytes) -> None:
        """The host will leave, and another one come. Never again once this VM knows something of a step."""
        if self._set:
            raise PermissionError("this VM was set up: it ends with its host")
        self._rests = True
        self._line.send(Kind.OK, number)

    def _set_up(self, number: int, payload: bytes) -> None:
        request = json.loads(payload)
        self._set, self._rests = True, False
        self._machine.set_up(
            bytes.fromhex(request["seed"]),
            request["time"],
            request["boot_id"],
            request["machine_id"],
            request["hostname"],
        )
        self._machine.limit(**request["limits"])
        self._env = request["env"]
        self._dies_alone = request["dies_alone"]
        self._end_after(request["lifetime_s"])
        if os.getpid() == 1:
            Path("/etc/hosts").write_text(f"127.0.0.1 localhost {request['hostname']}\n")
        for entry in request["egress"]:
            self._machine.name(entry["address"], entry["host"])
            self._doors.forward(entry["address"], entry["port"], entry["host"])
        if request["proxy"]:
            self._doors.proxy(PROXY_PORT)
        self._line.send(Kind.OK, number)

    # -- files, always on tmpfs

    def _put(self, number: int, payload: bytes) -> None:
        (size,) = struct.unpack_from("!I", payload)
        meta, data = json.loads(payload[4 : 4 + size]), payload[4 + size :]
        path = self._at(meta["path"])
        self._folder(path.parent)
        how = os.O_APPEND if meta["append"] else os.O_CREAT | os.O_EXCL
        fd = os.open(path, os.O_WRONLY | how, 0o600)
        with open(fd, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            self._machine.own(fd)
            file.write(data)
            file.flush()
            if meta["last"]:
                os.fchmod(fd, meta["mode"])
        answer = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()} if meta["last"] else {}
        self._line.send(Kind.OK, number, answer)

    def _folder(self, path: Path) -> None:
        if not path.is_dir():
            self._folder(path.parent)
            path.mkdir(0o755)
            self._machine.own_folder(path)

    def _collect(self, number: int, payload: bytes) -> None:
        request = json.loads(payload)
        self._streams[number] = stream = Stream(self._line, number)
        self._thread(self._send_folder, stream, self._at(request["path"]), request["max_files"], request["max_bytes"])

    def _send_folder(self, stream: Stream, base: Path, max_files: int, max_bytes: int) -> None:
        try:
            files = bytes_sent = 0
            for folder, _, names in os.walk(base):
                for name in sorted(names):
                    path = Path(folder, name)
                    if not stat.S_ISREG(path.lstat().st_mode):
                        continue
                    content = path.read_bytes() if path.stat().st_size <= max_bytes else b"-" * (max_bytes + 1)
                    files, bytes_sent = files + 1, bytes_sent + len(content)
                    if files > max_files or bytes_sent > max_bytes:
                        raise ValueError(f"more than {max_files} files or {max_bytes} bytes in {base}")
                    told = {"path": str(path.relative_to(base)), "sha256": hashlib.sha256(content).hexdigest()}
                    self._line.send(Kind.FILE, stream.number, told)
                    stream.push(Kind.DATA, content)
            self._line.send(Kind.OK, stream.number)
        except (OSError, ValueError) as error:
            self._line.send(Kind.ERR, stream.number, {"error": str(error)})
        finally:
            self._streams.pop(stream.number, None)

    # -- the command

    def _exec(self, number: int, payload: bytes) -> None:
        request = json.loads(payload)
        env = {"PATH": PATH, "HOME": "/step", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
        for folder in request["folders"]:
            self._folder(self._at(folder))
        pipe = subprocess.PIPE
        try:
            with self._exited:  # the reaper must not see the pid before it is noted
                process = self._machine.start(
                    request["argv"],
                    cwd=self._at(request["cwd"]),
                    env=env | self._env | request["env"],
                    stdin=pipe,
                    stdout=pipe,
                    stderr=pipe,
                    start_new_session=True,
                    bufsize=0,
                    **self._machine.user(),
                )
                self._commands[number] = process.pid
                self._born += 1
                self._exited.notify_all()
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._line.send(Kind.EXIT, number, {"error": str(error)})
            return
        self._streams[number] = stream = Stream(self._line, number)
        if self._line.alone:
            stream.kill()
        pumps = [
            self._thread(self._pump, stream, pipe_end, kind)
            for pipe_end, kind in ((process.stdout, Kind.STDOUT), (process.stderr, Kind.STDERR))
        ]
        self._thread(self._feed, stream, process.stdin)
        self._thread(self._finish, stream, process, pumps)

    def _pump(self, stream: Stream, pipe: Any, kind: Kind) -> None:
        while data := os.read(pipe.fileno(), CHUNK):
            stream.push(kind, data)

    def _feed(self, stream: Stream, pipe: Any) -> None:
        with contextlib.suppress(OSError):
            while data := stream.get():
                pipe.write(data)
        with contextlib.suppress(OSError):
            pipe.close()

    def _finish(self, stream: Stream, process: subprocess.Popen[bytes], pumps: list[threading.Thread]) -> None:
        with self._exited:
            self._exited.wait_for(lambda: process.pid in self._exits)
            process.returncode = self._exits.pop(process.pid)
        with contextlib.suppress(OSError):
            self._machine.end_stragglers(process.pid)  # also: nobody holds the pipes open any more
        for pump in pumps:
            pump.join()
        status = process.returncode
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        self._streams.pop(stream.number, None)
        answer = {"code": code, "signal": number, "limits": self._machine.exceeded()}
        self._line.send(Kind.EXIT, stream.number, answer)
        with self._exited:
            del self._commands[stream.number]
            self._exited.notify_all()

    def _reap(self) -> None:
        """PID 1 collects every orphan; only the exit status of a command is kept."""
        while True:
            born = self._born
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:  # and so there is no orphan either, until another command is started
                with self._exited:
                    while self._born == born:
                        self._exited.wait()
                continue
            with self._exited:
                if pid in self._commands.values():
                    self._exits[pid] = status
                    self._exited.notify_all()

    def _kill(self, number: int, payload: bytes) -> None:
        if number in self._commands:
            os.killpg(self._commands[number], json.loads(payload)["signal"])

    # -- streams

    def _data(self, number: int, payload: bytes) -> None:
        if number in self._streams:
            self._streams[number].feed(payload)

    def _eof(self, number: int, _: bytes) -> None:
        if number in self._streams:
            self._streams[number].feed_eof()

    def _close(self, number: int, payload: bytes) -> None:
        if number in self._streams:
            self._streams[number].broken = bool(payload)
            self._streams[number].kill()

    def _window(self, number: int, payload: bytes) -> None:
        if number in self._streams:
            self._streams[number].grant(struct.unpack("!I", payload)[0])

    def _opened(self, number: int, payload: bytes) -> None:
        if number in self._streams:
            self._streams[number].refusal = json.loads(payload)["error"]
            self._streams[number].opened.set()


def main() -> None:
    """PID 1 of the VM. Whatever happens, the VM ends."""
    machine = Machine()
    try:
        Agent(Line(os.open(find_port(PORT), os.O_RDWR)), machine).serve()
    except BaseException:  # noqa: BLE001 - the last rim: PID 1 must not return
        traceback.print_exc()
    finally:
        machine.power_off()
        time.sleep(60)
