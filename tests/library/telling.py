"""One run of one runbook, told to its end: two real targets, the real machine, a real VM for every step."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from demo.stage import ROOT
from demo.world import image as target_image
from demo.world.target import PRODUCTION, Target
from demo.world.world import World
from engine.agents.replay import ReplayServer, Tape, read_tape
from engine.domain.incident import Person, RunView
from engine.domain.runbook import ScriptStep
from engine.domain.states import RunState
from engine.orchestration.adapters import SystemClock
from engine.runbooks.shelf import Shelf
from engine.runtime import image as step_image
from engine.secrets.admin import Administrator
from engine.secrets.embedded import EmbeddedBao
from engine.settings import PREFIX, Settings, load
from engine.wiring import Installation, installation
from tests.library.case import Bad, Case
from tests.plugins_vm import URI

ANA = Person(id="UANA", name="Ana")
ENDS = frozenset({RunState.COMPLETED, RunState.ROLLED_BACK, RunState.TAKEN_OVER, RunState.ABANDONED, RunState.HALTED})
RUN_S = 1200


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """How a run ended. `untouched`: production is byte for byte, with every mode, owner and time, as before it.

    `gone`: the fault is gone from production. `logins`: as whom somebody logged in to production. `took_s`: seconds.
    """

    run: RunView
    untouched: bool
    gone: bool
    logins: frozenset[str]
    took_s: float

    @property
    def halted_at(self) -> tuple[str, frozenset[str]]:
        """The last gate that was measured, and those of its checks that did not hold."""
        last = self.run.verdicts[-1]
        return last.leg, frozenset(check.check_id for check in last.checks if check.verdict != "held")


def tell(case: Case, folder: Path, images: Path, bad: Bad | None = None) -> Told:
    """Break it on fresh targets, fire the alert, say yes when asked, wait for the end; then look by ourselves."""
    shelf = _shelf(case, folder / "runbooks", bad)
    image = target_image.build(images, _say, case.image)
    for name in _images(shelf, case):
        step_image.build(step_image.spec_of(name), images, progress=_say)
    world = World(folder / "world", image=image, alert_url="http://127.0.0.1:9/", service=case.service)
    with contextlib.ExitStack() as stack:
        stack.callback(world.stop)
        world.start(_say)
        _add_sites(world, stack.enter_context(case.others()))
        production = world.targets[PRODUCTION]
        settings = _settings(folder / "home", shelf, images, world)
        _write_secrets(settings, world, case)
        models = stack.enter_context(_models(case, bad, settings))
        wait(lambda: case.ripe(production), 120, "the fault to come so far that its alert fires")
        before = _state(case, production)
        box = stack.enter_context(_running(settings))
        begun = time.monotonic()
        headers = {"Authorization": f"Bearer {world.alert_token}"}
        assert box.service.receive("alertmanager", headers, _alert(case))
        run = _to_the_end(box)
        assert models is None or not models.refused, models.refused
        return Told(
            run=run,
            untouched=_state(case, production) == before,
            gone=case.gone(production),
            logins=frozenset(login.user for login in production.accepted()),
            took_s=time.monotonic() - begun,
        )


def _add_sites(world: World, others: Mapping[str, object]) -> None:
    if others:
        with world.sites_file.open("a") as file:
            yaml.safe_dump(dict(others), file)


def _images(shelf: Path, case: Case) -> frozenset[str]:
    """What the steps of the runbook boot."""
    steps = Shelf(shelf).read(case.runbook).runbook.steps
    return frozenset(step.image for step in steps if isinstance(step, ScriptStep))


def _state(case: Case, target: Target) -> tuple[str, str]:
    """Every file, and what the case says that files do not tell."""
    done = target.run("verifier", case.still)
    assert done.returncode == 0, done.stderr
    return target.tree(), done.stdout


def _shelf(case: Case, folder: Path, bad: Bad | None) -> Path:
    """A folder of runbooks with this one in it; the bad variant if one is asked for."""
    folder.mkdir()
    shutil.copy(ROOT / "runbooks" / f"{case.runbook}.yaml", folder)
    shutil.copytree(ROOT / "runbooks" / case.runbook, folder / case.runbook)
    for edit in bad.edits if bad else ():
        path = folder / edit.path
        text = path.read_text()
        assert text.count(edit.old) == 1, f"{edit.old!r} is in {path} {text.count(edit.old)} times"
        path.write_text(text.replace(edit.old, edit.new))
    return folder


def _settings(home: Path, shelf: Path, images: Path, world: World) -> Settings:
    """As anybody would configure it; but a bad variant was proved by nobody (that it must be has tests of its own)."""
    names = {
        "HOME": home,
        "RUNBOOKS": shelf,
        "IMAGES": images,
        "MODELS": home / "models.yaml",
        "SITES": world.sites_file,
        "LIBVIRT_URI": URI,
        "ALERTMANAGER_TOKEN": world.alert_token,
        "PROMETHEUS_URL": world.prometheus_url,
        "APPROVERS": ANA.id,
        "ACTIVATION": "off",
        "WARM_VMS": 1,
    }
    return load({f"{PREFIX}{name}": str(value) for name, value in names.items()})


@contextlib.contextmanager
def _models(case: Case, bad: Bad | None, settings: Settings) -> Iterator[ReplayServer | None]:
    """A server that says what is on the tapes, under every name that a step of an agent asks for, in both formats."""
    tapes = (bad.tapes if bad else ()) or case.tapes
    if not tapes:
        yield None
        return
    steps = Shelf(settings.runbooks).read(case.runbook).runbook.steps
    names = sorted({step.agent.model for step in steps if isinstance(step, ScriptStep) and step.agent is not None})
    with ReplayServer(Tape(tuple(one for path in tapes for one in read_tape(path).recordings))) as server:
        settings.models.write_text(
            "".join(
                f"{name}: {{api: {api}, model: tape, url: {server.url}}}\n"
                for name, api in zip(names, itertools.cycle(("anthropic", "openai")), strict=False)
            )
        )
        yield server


def _alert(case: Case) -> bytes:
    """What Alertmanager posts."""
    alert = {
        "status": "firing",
        "labels": dict(case.labels),
        "annotations": {"summary": case.broke},
        "startsAt": datetime.now(UTC).isoformat(),
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "",
        "fingerprint": "0123456789abcdef",
    }
    return json.dumps(
        {
            "version": "4",
            "groupKey": f"{{}}:{{alertname={case.labels['alertname']}}}",
            "truncatedAlerts": 0,
            "status": "firing",
            "receiver": "signalbox",
            "groupLabels": {"alertname": case.labels["alertname"]},
            "commonLabels": dict(case.labels),
            "commonAnnotations": {},
            "externalURL": "http://127.0.0.1:9093",
            "alerts": [alert],
        }
    ).encode()


def _write_secrets(settings: Settings, world: World, case: Case) -> None:
    """What an administrator does once: the secrets, and the policies compiled from the runbook."""
    settings.home.mkdir(mode=0o700)
    bao = EmbeddedBao(settings.home / "openbao")
    bao.start()
    try:
        with Administrator(bao.connection(), SystemClock(), password=bao.admin_password()) as administrator:
            for path, fields in {**world.vault_secrets, **case.secrets}.items():
                administrator.put(path, fields)
            administrator.apply(administrator.plan([Shelf(settings.runbooks).read(case.runbook).runbook]))
    finally:
        bao.stop()


@contextlib.contextmanager
def _running(settings: Settings) -> Iterator[Installation]:
    """Signalbox as `signalbox up` starts it, without its web server."""
    with installation(settings) as box:
        assert box.worker is not None
        box.watch.start()
        box.worker.start()
        box.hypervisor.keep_warm()
        try:
            yield box
        finally:
            box.worker.stop(30)
            box.watch.stop()


def _to_the_end(box: Installation) -> RunView:
    """Say yes whenever it asks; the run as it ended, or halted."""
    wait(lambda: bool(_runs(box)), 60, "a run to begin")
    while True:
        wait(lambda: _at_rest(box), RUN_S, "the run to ask or to end")
        run = _runs(box)[-1]
        if run.state in ENDS:
            return run
        box.service.approve(run.approvals[-1].token, ANA, yes=True)


def _at_rest(box: Installation) -> bool:
    state = _runs(box)[-1].state
    return state in ENDS or state is RunState.AWAITING_APPROVAL


def _runs(box: Installation) -> tuple[RunView, ...]:
    incidents = box.service.incidents()
    return box.service.incident(incidents[0].number).runs if incidents else ()


def wait(holds: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Look five times a second until it holds."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        time.sleep(0.2)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
