"""A target VM: staging or production. QEMU started directly, long-lived, cut off but for its forwarded loopback ports.

It boots the guest image of demo/world/image.py, whose root is read-only; what makes it this target (its settings,
sshd's host key, the public keys of its people) is laid over the initramfs. Its data disk is small, and really fills.
"""

from __future__ import annotations

import json
import re
import secrets
import shlex
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from demo.world import keys, monitoring
from demo.world.faults import Fault
from demo.world.processes import tool
from demo.world.service import Service
from engine.domain.errors import Unavailable
from engine.runtime import cpio

STAGING = "staging"
PRODUCTION = "production"
CHECKOUT = "checkout"
USERS = ("reader", "verifier", "operator")
DISK_MB = 96
BIG_FILE_MB = 83
SEED_MB = 60
PACE_MB_S = 0.6
MEMORY_MB = 224

_ACCEPTED = re.compile(r"^Accepted publickey for (\S+) from \S+ port \d+ ssh2: ED25519 (SHA256:\S+)", re.M)
# every file with mode, owner and time, but the log that lives and grows; a private key has no hash that it could show
_TREE = (
    "cd /srv/{service} && find . -path ./log/app.log -prune -o ! -type d -printf '%y %p %l %m %U %G %T@\\n' | sort"
    " && find . -path ./log/app.log -prune -o -type f -readable -print0 | sort -z | xargs -0 sha256sum"
)


@dataclass(frozen=True, slots=True)
class Accepted:
    """One login that sshd let in: the user, and the fingerprint of the key."""

    user: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One target VM as the host sees it. `ssh_port` and `http_port` are on 127.0.0.1, and so are the others.

    `others`: further ports, of the target -> of this machine.
    `broken`: its service does not answer at first, so it is ready without.
    `broken`: its service does not answer at first, so it is ready without. `ca`: what its https is verified with, if it
    speaks that.
    """

    env: str
    folder: Path
    ssh_port: int
    http_port: int
    host_key: keys.Key
    people: dict[str, keys.Key]
    service: str = CHECKOUT
    broken: bool = False
    others: Mapping[int, int] = field(default_factory=dict)
    ca: Path | None = None

    @property
    def host(self) -> str:
        """Its name in the directory of sites, as the runbooks say it."""
        return f"{self.env}.{self.service}.demo"

    @property
    def http_url(self) -> str:
        """Where the service answers."""
        return f"{'https' if self.ca else 'http'}://127.0.0.1:{self.http_port}"

    def site(self) -> dict[str, object]:
        """This target's entry of the directory (sites.yaml)."""
        return {
            "ports": {port: f"127.0.0.1:{here}" for port, here in {22: self.ssh_port, **self.others}.items()},
            "ssh_host_key": self.host_key.public,
            "http_url": self.http_url,
            **({"http_ca": str(self.ca)} if self.ca else {}),
        }

    def ready(self) -> bool:
        """Whether sshd greets and the service is well, unless it is broken."""
        try:
            well = self.broken or bool(json.loads(self.get("/healthz", timeout_s=2))["ok"])
            with socket.create_connection(("127.0.0.1", self.ssh_port), timeout=2) as connection:
                return well and connection.recv(4) == b"SSH-"
        except (Unavailable, OSError, ValueError):
            return False

    def get(self, path: str, timeout_s: float = 5) -> bytes:
        """What its service answers; raises Unavailable."""
        return monitoring.get(f"{self.http_url}{path}", timeout_s, self.ca)

    def run(self, user: str, command: str, *, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a shell command in the target by ssh, as one of its people."""
        known = self.folder / "known_hosts"
        known.write_text(f"[127.0.0.1]:{self.ssh_port} {self.host_key.public}\n")
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "20",
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(known),
        }
        argv = ["ssh", "-F", "/dev/null", "-T", "-p", str(self.ssh_port), "-i", str(self.people[user].path)]
        for name, value in options.items():
            argv += ["-o", f"{name}={value}"]
        try:
            return subprocess.run(
                [*argv, f"{user}@127.0.0.1", command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{self.env}: no answer to {command!r} within {timeout_s:.0f} s", "") from None

    def tree(self) -> str:
        """What lies under the service's folder without the live log, one line a file and its hash, for the verifier."""
        return self._say(_TREE.format(service=self.service))

    def effects(self) -> int:
        """How often the fix took effect: lines of effects.log in the service's folder."""
        count = "if [ -e effects.log ]; then wc -l <effects.log; else echo 0; fi"
        return int(self._say(f"cd /srv/{self.service} && {count}"))

    def accepted(self) -> tuple[Accepted, ...]:
        """Every login that sshd let in since boot, from its own log, which no user of the target can reach."""
        log = (self.folder / "sshd.log").read_text(errors="replace")
        return tuple(Accepted(user, fingerprint) for user, fingerprint in _ACCEPTED.findall(log))

    def _say(self, command: str) -> str:
        done = self.run("verifier", command)
        if done.returncode != 0:
            raise Unavailable(f"{self.env}: {command!r} ended with {done.returncode}: {done.stderr[-300:]}", "")
        return done.stdout


def prepare(env: str, folder: Path, image: Path, service: Service, ports: Sequence[int]) -> Target:
    """Make keys, initramfs and a data disk, nearly full, of one target in `folder`. `ports`: ssh, http, database's."""
    folder.mkdir(parents=True, mode=0o700)
    target = Target(
        env=env,
        folder=folder,
        ssh_port=ports[0],
        http_port=ports[1],
        host_key=keys.generate(folder / "keys" / "host", f"host@{env}"),
        people={user: keys.generate(folder / "keys" / user, f"{user}@{env}") for user in USERS},
        service=service.name,
        broken=env in service.broken,
        others={service.database: ports[2]} if service.database else {},
        ca=folder / "ca.pem" if service.ca else None,
    )
    if target.ca:
        target.ca.write_bytes(service.ca)
    initrd = folder / "initrd.img"
    initrd.touch(mode=0o600)  # it holds the private host key
    initrd.write_bytes((image / "initrd.img").read_bytes() + cpio.archive(_own_files(target, service)))
    _make_disk(folder / "data.img", service.data(env), folder / "srv")
    return target


def argv(target: Target, image: Path, accel: str) -> list[str]:
    """The QEMU command. `restrict=on`: no packet leaves but in answer to the forwarded ports."""
    forwarded = {22: target.ssh_port, 8080: target.http_port, **target.others}
    forwards = ",".join(f"hostfwd=tcp:127.0.0.1:{here}-:{port}" for port, here in forwarded.items())
    acceleration = "kvm" if accel == "kvm" else "tcg,tb-size=64"
    return [
        "qemu-system-x86_64",
        *("-name", f"signalbox-demo-{target.env}"),
        *("-machine", "q35,usb=off,vmport=off", "-accel", acceleration),
        *("-cpu", "host" if accel == "kvm" else "max", "-m", str(MEMORY_MB), "-smp", "1"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-vga", "none"),
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
        *("-kernel", str(image / "vmlinuz"), "-initrd", str(target.folder / "initrd.img")),
        *("-append", "quiet loglevel=0 panic=-1 no_timer_check console=ttyS0", "-no-reboot"),
        *("-drive", f"file={image / 'rootfs.erofs'},if=none,id=root,format=raw,readonly=on,file.locking=off"),
        *("-device", "virtio-blk-pci,drive=root"),
        *("-drive", f"file={target.folder / 'data.img'},if=none,id=data,format=raw,cache=unsafe"),
        *("-device", "virtio-blk-pci,drive=data"),
        *("-netdev", f"user,id=net,restrict=on,ipv6=off,{forwards}", "-device", "virtio-net-pci,netdev=net,romfile="),
        *("-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng"),
        *("-serial", f"file:{target.folder / 'console.log'}", "-serial", f"file:{target.folder / 'sshd.log'}"),
    ]


def _own_files(target: Target, service: Service) -> dict[str, cpio.Member]:
    """What makes this target this target; init.sh puts `world.NAME` at /run/world/NAME."""
    told = {"ENV": target.env, "SERVICE": service.name, **service.settings(target.env)}
    files = {f"world.{name}": cpio.Member(content) for name, content in service.files.items()}
    files |= {
        "world.settings": cpio.Member(assignments(told).encode()),
        "world.host_key": cpio.Member(target.host_key.private.encode(), 0o600),
    }
    for user, key in target.people.items():
        files[f"world.{user}.pub"] = cpio.Member(f"restrict {key.public} {user}@{target.env}\n".encode())
    return files


def checkout(fault: Fault) -> Service:
    """The demo's service, which fills its disk; everything of it but this is in the image."""
    return Service(
        name=CHECKOUT, settings=lambda env: settings(env, fault), data=lambda env: first_data(env, fault), watched=True
    )


def settings(env: str, fault: Fault) -> dict[str, object]:
    """What service.sh is told."""
    return {"PACE_MB": PACE_MB_S, "OLD_RELEASE": int(env == PRODUCTION and fault is Fault.PRODUCTION)}


def assignments(values: Mapping[str, object]) -> str:
    """As a shell reads them."""
    return "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in values.items())


def first_data(env: str, fault: Fault) -> dict[str, bytes]:
    """What lies on the data disk at first: path under /srv -> content."""
    cause_unknown = env == PRODUCTION and fault is Fault.DIAGNOSIS
    big_file = cause_unknown or (env == STAGING and fault is Fault.STAGING)
    line = b"2026-01-01T00:00:00Z DEBUG dump cart=7f3a41 item=SKU-20817 quantity=2 price=1999 currency=EUR\n"
    log = b"" if big_file else line * ((SEED_MB << 20) // len(line))
    files = {
        "checkout.json": json.dumps({"log_level": "info" if cause_unknown else "debug"}).encode() + b"\n",
        "data/prices.csv": b"sku,price\nSKU-20817,1999\nSKU-20818,2499\n",
        "data/orders.db": secrets.token_bytes(1 << 20),
        "log/app.log": log,
    }
    if big_file:
        files["data/carts.export"] = b"exported cart\n" * ((BIG_FILE_MB << 20) // 14)
    return {f"checkout/{name}": content for name, content in files.items()}


def _make_disk(path: Path, files: Mapping[str, bytes], scratch: Path) -> None:
    for name, content in files.items():
        file = scratch / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    with path.open("wb") as disk:
        disk.truncate(DISK_MB << 20)
    # no journal, no reserve, few inodes: a small disk should be all data
    options = ["-O", "^has_journal", "-N", "512", "-m", "0", "-E", "root_owner=0:0"]
    tool("mkfs.ext4", "-q", "-F", *options, "-d", str(scratch), str(path))
    shutil.rmtree(scratch)
