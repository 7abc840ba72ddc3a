"""Everything of the demo on one machine: libvirt, guest images, the stand-in workspace, the world, Signalbox itself.

`demo.run` enters it; tests do too. All state lies in one folder; what it started is gone when it is left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import requests

from demo.workspace.driver import Driver
from demo.workspace.server import ANA, BEN
from demo.world import image as target_image
from demo.world.faults import Fault
from demo.world.processes import Processes, plain_environ
from demo.world.world import World
from engine.domain.digest import of_bytes
from engine.domain.errors import Conflict, Unavailable
from engine.orchestration.adapters import SystemClock
from engine.runbooks.shelf import Shelf
from engine.runtime import image
from engine.secrets.admin import Administrator, LiveToken
from engine.secrets.embedded import EmbeddedBao

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".signalbox" / "demo"
LIBVIRTD = ROOT / "scripts" / "libvirtd.py"
SYSTEM_IMAGES = Path("/var/lib/signalbox/images")
APPROVERS = (ANA.id, BEN.id)
SIGNALBOX = "signalbox"
RUNBOOK, WITH_AGENTS = "disk-full", "disk-full-agent"
TAPES = ROOT / "demo" / "tapes"
MODELS = "models"
BOT_TOKEN = "slack-bot-token"  # noqa: S105  the name of a file
SIGNING_SECRET = "slack-signing-secret"  # noqa: S105  likewise
SLACK_SECRETS = (BOT_TOKEN, SIGNING_SECRET)
READY_S = 120


def images_folder() -> Path:
    """Where guest images lie: system-mode QEMU runs as a user of its own, who cannot look into a home."""
    return SYSTEM_IMAGES if os.geteuid() == 0 else ROOT / ".signalbox" / "images"


@dataclass
class Stage:
    """The demo, set up. Times in seconds; `say` gets short progress lines.

    `agents`: agents diagnose and write the fix; their models replay tapes (`demo/tapes`), and do nothing else.
    """

    fault: Fault
    say: Callable[[str], None]
    folder: Path = FOLDER
    ports: Mapping[str, int] = field(default_factory=lambda: _free_ports("signalbox", "workspace", "models"))
    images: Path = field(default_factory=images_folder)
    shelf: Path = ROOT / "runbooks"
    agents: bool = False
    world: World = field(init=False)
    processes: Processes = field(init=False)
    driver: Driver = field(init=False)

    @property
    def url(self) -> str:
        """The page of the workspace."""
        return f"http://127.0.0.1:{self.ports['workspace']}/"

    @property
    def dashboard(self) -> str:
        """Signalbox's own pages."""
        return f"http://127.0.0.1:{self.ports['signalbox']}"

    @property
    def home(self) -> Path:
        """Signalbox's state."""
        return self.folder / "home"

    @property
    def runbooks(self) -> Path:
        """A copy of the runbooks, so that what the demo tampers with is not the checkout."""
        return self.folder / "runbooks"

    @property
    def runbook(self) -> str:
        """The one that mends the demo's world."""
        return WITH_AGENTS if self.agents else RUNBOOK

    @property
    def step_images(self) -> Path:
        """Signalbox's images: hard links, so that what the demo tampers with is not what others boot."""
        return self.images.parent / f"demo-{of_bytes(str(self.folder.resolve()).encode())[7:15]}"

    @contextlib.contextmanager
    def set_up(self) -> Iterator[Stage]:
        """Start everything; stop it all at the end, and prove it."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.processes = Processes(self.folder / "processes")
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._alone())
            stack.callback(self._stop)
            if ended := self.processes.sweep():
                self.say(f"ended {len(ended)} processes of an earlier demo")
            self._libvirtd("start")
            stack.callback(self._libvirtd, "stop")
            image.build(image.STEP, self.images, progress=self.say)
            target = target_image.build(self.images, self.say)
            self._lay_out()
            self._start_workspace()
            self.world = World(
                self.folder / "world",
                image=target,
                alert_url=f"{self.dashboard}/alerts/alertmanager",
                fault=self.fault,
            )
            stack.callback(self.world.stop)
            self.world.start(self.say)
            if self.agents:
                self._start_models()
            self._write_secrets()
            self._activate_runbooks()
            self.start_signalbox()
            stack.callback(self.stop_signalbox)
            yield self

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """A second demo in this folder would end this one's processes as leftovers: refuse it."""
        with (self.folder / "lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict(f"a demo runs in {self.folder}", "stop it first: Ctrl-C where it runs") from None
            yield

    def left_behind(self) -> tuple[str, ...]:
        """Processes of this stage that are alive: by our mark in their environment, or booted from our images."""
        ours = (*self.processes.ours(), *Processes(self.folder / "world" / "processes").ours())
        left = [f"process {pid}" for pid in ours]
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if str(self.step_images).encode() in entry.read_bytes():
                    left.append(f"VM, process {entry.parent.name}")
        return tuple(left)

    def _lay_out(self) -> None:
        for path in (self.home, self.runbooks, self.step_images):
            shutil.rmtree(path, ignore_errors=True)
        for name in ("workspace.json", "workspace.received", "signalbox.log", "workspace.log"):
            (self.folder / name).unlink(missing_ok=True)
        self.home.mkdir(mode=0o700)
        self.runbooks.mkdir()  # the others of the library are about services that this world does not have
        shutil.copy(self.shelf / f"{self.runbook}.yaml", self.runbooks)
        shutil.copytree(self.shelf / self.runbook, self.runbooks / self.runbook)
        for name in SLACK_SECRETS:
            path = self.folder / name
            path.unlink(missing_ok=True)
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(24))
        links = self.step_images / "step"
        links.mkdir(parents=True)
        for path in (self.images / "step").iterdir():
            os.link(path, links / path.name)

    def _libvirtd(self, verb: str) -> None:
        if os.geteuid() != 0:
            return  # a plain user's libvirt (qemu:///session) starts by itself
        state = self.folder / "libvirtd"
        subprocess.run([sys.executable, str(LIBVIRTD), verb, "--state", str(state)], check=True, timeout=60)

    def _start_workspace(self) -> None:
        self.say("starting the stand-in workspace")
        argv = [sys.executable, "-m", "demo.workspace", "--port", str(self.ports["workspace"])]
        argv += ["--request-url", f"{self.dashboard}/slack/events", "--state-file", str(self.folder / "workspace.json")]
        environ = {
            **_python_environ(),
            "SLACK_BOT_TOKEN_FILE": str(self.folder / BOT_TOKEN),
            "SLACK_SIGNING_SECRET_FILE": str(self.folder / SIGNING_SECRET),
        }
        self.processes.spawn("workspace", argv, log=self.folder / "workspace.log", environ=environ)
        self.driver = Driver(self.url)
        self._wait("workspace", self.url)

    def _start_models(self) -> None:
        """One server for both wire formats: the diagnosing agent speaks Anthropic's, the writing one OpenAI's."""
        self.say("starting the models, which replay tapes")
        tapes = TAPES / ("unknown" if self.fault is Fault.DIAGNOSIS else "mends")
        url = f"http://127.0.0.1:{self.ports['models']}"
        argv = [sys.executable, "-m", "engine.agents.replay", "--tape", str(tapes), "--port", str(self.ports["models"])]
        self.processes.spawn(MODELS, argv, log=self.folder / "models.log", environ=_python_environ())
        self._wait(MODELS, f"{url}/")
        self.models_file.write_text(
            f"careful: {{api: anthropic, model: tape, url: {url}, price: {{input: 3, output: 15}}}}\n"
            f"writer: {{api: openai, model: tape, url: {url}, price: {{input: 1, output: 5}}}}\n"
        )

    @property
    def models_file(self) -> Path:
        """The models that the agents' steps name."""
        return self.home / "models.yaml"

    def _write_secrets(self) -> None:
        """What an administrator does once: the secrets, and the policies compiled from the reviewed runbooks."""
        self.say("writing secrets and policies into the embedded OpenBao")
        bao = EmbeddedBao(self.home / "openbao")
        bao.start()
        try:
            with self.administrator() as administrator:
                for path, fields in self.world.vault_secrets.items():
                    administrator.put(path, fields)
                shelf = Shelf(self.runbooks)
                administrator.apply(administrator.plan([shelf.read(name).runbook for name in shelf.names()]))
        finally:
            bao.stop()

    def _activate_runbooks(self) -> None:
        """What whoever reviewed the runbooks does once, and again after each change: say that these may start."""
        self.cli("migrate")
        self.cli("runbook", "activate", "--all")

    def administrator(self) -> Administrator:
        """An administrator of the embedded OpenBao, which must be running."""
        bao = EmbeddedBao(self.home / "openbao")
        return Administrator(bao.connection(), SystemClock(), password=bao.admin_password())

    def live_tokens(self) -> tuple[LiveToken, ...]:
        """Tokens of runs and steps that are alive in OpenBao now (the bot's own login is none)."""
        with self.administrator() as administrator:
            return tuple(token for token in administrator.live_accessors() if "op-bot" not in token.policies)

    # -- Signalbox itself

    def environ(self) -> dict[str, str]:
        """Its configuration, as anybody would write it."""
        return {
            **_python_environ(),
            "SIGNALBOX_HOME": str(self.home),
            "SIGNALBOX_RUNBOOKS": str(self.runbooks),
            "SIGNALBOX_IMAGES": str(self.step_images),
            "SIGNALBOX_SITES": str(self.world.sites_file),
            "SIGNALBOX_LISTEN": f"127.0.0.1:{self.ports['signalbox']}",
            "SIGNALBOX_ALERTMANAGER_TOKEN_FILE": str(self.world.folder / "alert-token"),
            "SIGNALBOX_PROMETHEUS_URL": self.world.prometheus_url,
            "SIGNALBOX_SLACK_API_URL": f"{self.url}api/",
            "SIGNALBOX_SLACK_BOT_TOKEN_FILE": str(self.folder / BOT_TOKEN),
            "SIGNALBOX_SLACK_SIGNING_SECRET_FILE": str(self.folder / SIGNING_SECRET),
            "SIGNALBOX_SLACK_FEED_CHANNEL": "incidents",
            "SIGNALBOX_SLACK_INVITE": ",".join(APPROVERS),
            "SIGNALBOX_APPROVERS": ",".join(APPROVERS),
            "SIGNALBOX_AGENTS_MD": str(ROOT / "agents.md"),
            "SIGNALBOX_MODELS": str(self.models_file),
        }

    def start_signalbox(self) -> None:
        """Start it, or start it again after it was killed."""
        self.say("starting signalbox")
        command = Path(sys.executable).with_name("signalbox")
        self.processes.spawn(SIGNALBOX, [str(command), "up"], log=self.folder / "signalbox.log", environ=self.environ())
        self._wait(SIGNALBOX, f"{self.dashboard}/")

    def stop_signalbox(self) -> None:
        """End it as an operator would; it drains to the next boundary."""
        if self.processes.alive(SIGNALBOX):
            child = self.processes.child(SIGNALBOX)
            child.terminate()
            try:
                child.wait(READY_S)
            except subprocess.TimeoutExpired:
                self.processes.kill(SIGNALBOX)

    def kill_signalbox(self) -> None:
        """kill -9 of the whole program."""
        self.processes.kill(SIGNALBOX)

    def cli(self, *argv: str) -> str:
        """What a `signalbox` command prints; raises CalledProcessError."""
        command = [str(Path(sys.executable).with_name("signalbox")), *argv]
        done = subprocess.run(command, env=self.environ(), check=True, capture_output=True, text=True, timeout=60)
        return done.stdout

    def _wait(self, name: str, url: str) -> None:
        deadline = time.monotonic() + READY_S
        while True:
            with contextlib.suppress(requests.RequestException):
                if requests.get(url, timeout=5).status_code < 500:
                    return
            if not self.processes.alive(name) or time.monotonic() > deadline:
                log = self.folder / f"{name}.log"
                raise Unavailable(f"{name} did not start: {log.read_text()[-1500:]}", f"see {log}")
            time.sleep(0.2)

    def _stop(self) -> None:
        self.processes.stop()
        shutil.rmtree(self.step_images, ignore_errors=True)


def _python_environ() -> dict[str, str]:
    return {**plain_environ(), "PYTHONUNBUFFERED": "1"}


def _free_ports(*names: str) -> dict[str, int]:
    with contextlib.ExitStack() as held:
        sockets = {name: held.enter_context(socket.socket()) for name in names}
        for one in sockets.values():
            one.bind(("127.0.0.1", 0))
        return {name: one.getsockname()[1] for name, one in sockets.items()}
