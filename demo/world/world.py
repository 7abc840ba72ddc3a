"""The whole world of the demo in one folder: targets, Prometheus, Alertmanager, keys. `demo.run` owns it."""

from __future__ import annotations

import contextlib
import fcntl
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO

import yaml

from demo.world import monitoring
from demo.world.faults import Fault
from demo.world.processes import Processes
from demo.world.service import Service
from demo.world.target import PRODUCTION, STAGING, Target, argv, checkout, prepare
from engine.domain.errors import Conflict, Unavailable

ENVS = (STAGING, PRODUCTION)
BOOT_S = 120


class World:
    """Start it once; read `targets`, `vault_secrets`, `sites_file`, `prometheus_url`; stop it.

    `folder` is the world's own: emptied at the start, kept at the end for whoever wants to read its logs.
    `image` holds vmlinuz, initrd.img and rootfs.erofs of the guest image `target`.
    `alert_url` is where Alertmanager posts, with `alert_token` as bearer token. `accel` is tcg or kvm.
    `service` is what runs on the targets: `checkout` with its `fault`, if none is given.
    """

    def __init__(
        self,
        folder: Path,
        *,
        image: Path,
        alert_url: str,
        fault: Fault = Fault.NONE,
        service: Service | None = None,
        accel: str = "tcg",
    ) -> None:
        self.folder = folder.absolute()
        self.fault = fault
        self.service = checkout(fault) if service is None else service
        self.alert_token = secrets.token_urlsafe(32)
        self.targets: dict[str, Target] = {}
        self.prometheus_url = ""
        self.alertmanager_url = ""
        self._image = image.absolute()
        self._alert_url = alert_url
        self._accel = accel
        self._processes = Processes(self.folder / "processes")
        self._lock: IO[bytes] | None = None

    @property
    def sites_file(self) -> Path:
        """The directory of sites, for SIGNALBOX_SITES."""
        return self.folder / "sites.yaml"

    @property
    def vault_secrets(self) -> Mapping[str, Mapping[str, str]]:
        """What to write into Vault: full API path -> fields."""
        return {
            f"kv/data/{self.service.name}/{target.env}/{user}": {"private_key": key.private}
            for target in self.targets.values()
            for user, key in target.people.items()
        }

    def start(self, progress: Callable[[str], None]) -> None:
        """Start everything and wait until it answers; stops what it started when that fails.

        Raises Conflict when a world runs in this folder already, Unavailable with what is missing.
        """
        self._take()
        try:
            if ended := self._processes.sweep():
                progress(f"ended {len(ended)} processes of an earlier demo")
            self._clear()
            self._start(progress)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop everything; raises Unavailable when a process of ours is left. Harmless when nothing was started."""
        if self._lock is None:
            return  # whatever runs in this folder is somebody else's
        try:
            self._processes.stop()
        finally:
            self._lock.close()
            self._lock = None

    def leftovers(self) -> tuple[int, ...]:
        """Pids of every living process that this folder's worlds started."""
        return tuple(self._processes.ours())

    def kill_prometheus(self) -> None:
        """The fault `nodata`: Prometheus is gone, at once."""
        self._processes.kill("prometheus")

    def firing(self) -> bool:
        """Whether Prometheus says that the alert fires; raises Unavailable when it does not answer."""
        return monitoring.firing(self.prometheus_url)

    def _take(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (self.folder / "lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise Conflict(f"a demo is running in {self.folder}", "stop it first: press Ctrl-C where it runs") from None
        self._lock = lock

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()

    def _start(self, progress: Callable[[str], None]) -> None:
        for name in ("vmlinuz", "initrd.img", "rootfs.erofs"):
            if not (self._image / name).is_file():
                raise Unavailable(f"no {name} in {self._image}", "run `make demo`, which builds the guest images")
        ports = _free_ports(8)
        begun = time.monotonic()
        progress("booting staging and production")
        for env, own in zip(ENVS, (ports[0:3], ports[3:6]), strict=True):
            target = prepare(env, self.folder / env, self._image, self.service, own)
            self.targets[env] = target
            self._processes.spawn(env, argv(target, self._image, self._accel), log=target.folder / "qemu.log")
        if self.service.watched:
            self._start_monitoring(ports[6], ports[7])
        sites = {target.host: target.site() for target in self.targets.values()}
        self.sites_file.write_text(yaml.safe_dump(sites, sort_keys=False))
        for env, target in self.targets.items():
            self._wait(env, target.ready, target.folder / "qemu.log", target.folder / "console.log")
        watching = (("prometheus", self.prometheus_url), ("alertmanager", self.alertmanager_url))
        for name, url in watching if self.service.watched else ():
            self._wait(name, partial(_answers, f"{url}/-/ready"), self.folder / name / "log")
        progress(f"the world is up after {time.monotonic() - begun:.0f} s")

    def _start_monitoring(self, prometheus_port: int, alertmanager_port: int) -> None:
        token_file = self.folder / "alert-token"
        token_file.touch(mode=0o600)
        token_file.write_text(self.alert_token)
        configured = {
            "alertmanager/alertmanager.yml": monitoring.alertmanager_config(self._alert_url, token_file),
            "prometheus/rules.yml": monitoring.rules(),
            "prometheus/prometheus.yml": monitoring.prometheus_config(
                f"127.0.0.1:{alertmanager_port}",
                {env: f"127.0.0.1:{target.http_port}" for env, target in self.targets.items()},
            ),
        }
        for name, text in configured.items():
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        for name, argv_of, port in (
            ("alertmanager", monitoring.alertmanager_argv, alertmanager_port),
            ("prometheus", monitoring.prometheus_argv, prometheus_port),
        ):
            folder = self.folder / name
            self._processes.spawn(name, argv_of(folder, port), log=folder / "log")
        self.alertmanager_url = f"http://127.0.0.1:{alertmanager_port}"
        self.prometheus_url = f"http://127.0.0.1:{prometheus_port}"

    def _wait(self, name: str, ready: Callable[[], bool], *logs: Path) -> None:
        deadline = time.monotonic() + BOOT_S
        while not ready():
            if not self._processes.alive(name) or time.monotonic() > deadline:
                seen = "\n".join(log.read_text(errors="replace")[-1500:] for log in logs if log.exists())
                state = "does not answer" if self._processes.alive(name) else "ended by itself"
                raise Unavailable(f"{name} {state}: {seen.strip() or 'it said nothing'}", f"see {logs[0]}")
            time.sleep(0.2)


def _answers(url: str) -> bool:
    try:
        monitoring.get(url, timeout_s=2)
    except Unavailable:
        return False
    return True


def _free_ports(count: int) -> list[int]:
    """Loopback ports that are free now; held together, so that no two are the same."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
