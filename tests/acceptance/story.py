"""The happy play once, with everything that the tests want to know of it. Its buttons are pressed in a real browser.

The steps of its runbook are chatty: each prints its secrets in every shape that it can (`chatter.py`).
"""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import requests

from demo import plays
from demo.stage import ROOT, SLACK_SECRETS, Stage
from demo.workspace.server import ANA, BEN
from demo.world import keys
from demo.world.target import Accepted
from engine.domain.incident import EventView, RunView
from engine.store import views
from engine.store.session import Database
from tests.acceptance import places, sampler, telling
from tests.acceptance.browser import Browser, browser
from tests.acceptance.finder import Finder, Kind, Place
from tests.plugins_vm import URI

CHATTER = Path(__file__).with_name("chatter.py")
OWN_PLACES = (
    "world/*/keys/*",  # the people of the targets keep their keys there
    "world/*/data.img",  # the targets' own disks
    "world/alert-token",
    *SLACK_SECRETS,
    "home/openbao/bot.secret_id",
    "home/openbao/admin.password",
)
""" Files that hold a secret because it lives there. Everything else in the stage's folder is searched. """
PAGES = ("/", "/incidents/1", "/metrics", "/healthz")
NOTE_FIELDS = ("what", "change", "rule")
STALE_S = 600


@dataclass
class Story:
    """What was recorded. `read`: what could be read on a page at a moment; `replays`: HTTP status of each."""

    finder: Finder
    run: RunView
    events: tuple[EventView, ...] = ()
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    channels: dict[str, list[str]] = field(default_factory=dict)
    accepted: dict[str, tuple[Accepted, ...]] = field(default_factory=dict)
    effects: dict[str, str] = field(default_factory=dict)
    read: dict[str, str] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    replays: dict[str, list[int]] = field(default_factory=dict)
    changed_by_replays: dict[str, list[str]] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)
    patch: str = ""
    owner: str = ""
    live_tokens: tuple[object, ...] = ()
    left_behind: list[str] = field(default_factory=list)
    sampling_error: BaseException | None = None


def tell() -> Story:
    """Play it and record it: about six minutes."""
    begun = time.time()
    after: list[Place] = []
    left: list[str] = []

    def look_after(stage: Stage) -> None:
        left.extend(_left_behind(stage))
        after.extend(places.files(stage.folder, OWN_PLACES))

    with (
        tempfile.TemporaryDirectory() as scratch,
        sampler.Sampler(URI) as sampling,
        telling.stage(shelf=chatty(Path(scratch, "runbooks")), after=look_after) as stage,
        browser() as window,
    ):
        finder = plant(stage, Path(scratch, "decoys"))
        story = _play(stage, window, finder)
        _record(story, stage)
    story.left_behind = left
    story.places += [*after, *places.libvirt_logs(begun), *sampling.places]
    story.sampling_error = sampling.error
    return story


def chatty(folder: Path) -> Path:
    """A copy of our runbooks whose scripts print every secret that they have."""
    shutil.copytree(ROOT / "runbooks", folder)
    scripts = folder / "disk-full"
    shutil.copy(CHATTER, scripts)
    diagnose = scripts / "diagnose.py"
    text = diagnose.read_text()
    diagnose.write_text(
        text.replace("import json\n", "import chatter\nimport json\n", 1).replace(
            '    """Look and print."""\n', '    """Look and print."""\n    chatter.main()\n'
        )
    )
    for name in ("apply.sh", "rollback.sh"):
        with (scripts / name).open("a") as script:
            script.write("\npython3 /step/runbook/chatter.py\n")
    return folder


def plant(stage: Stage, scratch: Path) -> Finder:
    """Know every secret of this stage, and put one more into Vault, in a field that no step declares."""
    canary = f"canary '{secrets.token_hex(8)}\" <&> $x/\u00e9 {secrets.token_hex(8)}"
    planted = {"canary": canary}
    decoys = []
    with stage.administrator() as administrator:
        for path, fields in stage.world.vault_secrets.items():
            administrator.put(path, {**fields, "canary": canary})
    for env, target in stage.world.targets.items():
        for user, key in target.people.items():
            planted[f"ssh key {env}/{user}"] = key.private
            # what every key of this kind says (its frame, its format, its comment) is no secret
            decoys.append(keys.generate(scratch / env / user, f"{user}@{env}").private)
    planted |= {name: (stage.folder / name).read_text().strip() for name in SLACK_SECRETS}
    planted["alert token"] = stage.world.alert_token
    for name in ("bot.secret_id", "admin.password"):
        planted[f"openbao {name}"] = (stage.home / "openbao" / name).read_text().strip()
    return Finder(planted, decoys)


# -- the play


def _play(stage: Stage, window: Browser, finder: Finder) -> Story:
    asked, order = plays.asked_for_approval(stage)
    story = Story(finder=finder, run=plays.run(stage))
    story.places += places.files(stage.folder, OWN_PLACES)  # the write-ahead log as it is now will be gone later
    _read_dashboard(story, stage, window, "waiting")
    stage.say("a browser approves")
    _approve(window, stage, asked)
    _replay(story, stage, "at once")
    plays.carried_out(stage, order)
    plays.resolved(stage)
    stage.say("a browser writes the note")
    _write_note(window, stage)
    story.patch = plays.note_has_a_patch(stage)
    _read_dashboard(story, stage, window, "closed")
    story.complaints = window.complaints()
    telling.wait(lambda: _settled(stage), 60, "every message to leave")
    _replay(story, stage, "at rest")
    return story


def _approve(window: Browser, stage: Stage, asked: plays.Message) -> None:
    window.open(f"{stage.url}?as={BEN.id}&channel={asked['channel']}")
    message = f'article[data-ts="{asked["ts"]}"]'
    button = f'{message} button[data-action="approval.approve"]'
    window.one(button)
    window.shoot("approval", at=message)
    window.press(button)
    window.shows("Approve this order?")
    window.press('#confirm button[value="yes"]')
    window.gone(button)


def _write_note(window: Browser, stage: Stage) -> None:
    offer = plays.message_with(stage, "note.open", 60)
    window.open(f"{stage.url}?as={ANA.id}&channel={offer['channel']}")
    window.press(f'article[data-ts="{offer["ts"]}"] button[data-action="note.open"]')
    window.choose('#view select[data-block="step:diagnose"]', "drifted")
    for name in NOTE_FIELDS:
        window.fill(f'#view [data-block="{name}"]', plays.NOTE[name])
    window.shoot("note")
    window.press('#view button[type="submit"]')
    window.gone("#view form")
    window.shows(plays.NOTE["rule"])
    window.shoot("channel")


def _read_dashboard(story: Story, stage: Stage, window: Browser, moment: str) -> None:
    window.open(f"{stage.dashboard}/")
    window.shows("Incidents")
    story.read[f"list, {moment}"] = window.text()
    window.shoot(f"dashboard-{moment}")
    window.press('a[href="/incidents/1"]')
    window.shows("What each gate measured")
    story.read[f"incident, {moment}"] = window.text()
    window.shoot(f"incident-{moment}")


def _replay(story: Story, stage: Stage, moment: str) -> None:
    """The click of the browser once more: three copies, one forged, one stale."""
    before = _acts(stage)
    delivery = _click(stage)
    copies = stage.driver.replay(delivery, times=3)
    forged = stage.driver.replay(delivery, forged=True)
    stale = stage.driver.replay(delivery, age_s=STALE_S)
    story.replays[moment] = [outcome.status for outcome in (copies, *copies.copies, forged, stale)]
    after = _acts(stage)
    story.changed_by_replays[moment] = [name for name, value in before.items() if after[name] != value]


def _click(stage: Stage) -> str:
    """The delivery that took Ben's yes to Signalbox."""
    for delivery in stage.driver.deliveries():
        if delivery["kind"] == "block_actions":
            payload = json.loads(parse_qs(delivery["body"])["payload"][0])
            if payload["user"]["id"] == BEN.id and payload["actions"][0]["action_id"] == "approval.approve":
                return str(delivery["id"])
    raise plays.NotAsItShould("the browser's click did not reach Signalbox")


def _acts(stage: Stage) -> Mapping[str, object]:
    """All that a person's yes may change; at rest, every row of the database."""
    acts: dict[str, object] = {
        "approvals": [(row["id"], row["decided_by"], row["decided_at"]) for row in telling.rows(stage, "approval")],
        "approved": [row["id"] for row in telling.rows(stage, "event") if row["kind"] == "approved"],
        "seen": telling.rows(stage, "seen"),
    }
    if plays.incident_state(stage).value == "closed":
        acts |= {place.name: place.content for place in places.database(stage.home / "signalbox.db")}
    return acts


def _settled(stage: Stage) -> bool:
    return all(row["state"] == "sent" for row in telling.rows(stage, "outbox"))


# -- what is kept of it


def _record(story: Story, stage: Stage) -> None:
    story.run = plays.run(stage)
    database = Database(f"sqlite:///{stage.home / 'signalbox.db'}")
    with database.reading() as session:
        story.events = views.events(session, 1)
    database.close()
    story.rows = {name: telling.rows(stage, name) for name in ("inbox", "approval", "vault_token", "outbox", "attempt")}
    for env, target in stage.world.targets.items():
        story.accepted[env] = target.accepted()
        story.effects[env] = target.run("verifier", "cat /srv/checkout/effects.log").stdout
    for channel in stage.driver.channels():
        story.channels[channel["name"]] = [
            stage.driver.text(message)
            for top in stage.driver.messages(channel["id"])
            for message in (top, *top["replies"])
        ]
    story.owner = (stage.home / "installation-id").read_text().strip()
    story.live_tokens = stage.live_tokens()
    story.places += _outside(stage)


def _outside(stage: Stage) -> Iterator[Place]:
    database = stage.home / "signalbox.db"
    yield from places.database(database)
    yield from places.artefacts(database)
    yield Place(Kind.RECEIVED, "the workspace", stage.driver.received().encode())
    for path in PAGES:
        yield Place(Kind.PAGE, path, requests.get(f"{stage.dashboard}{path}", timeout=30).content)


def _left_behind(stage: Stage) -> Iterator[str]:
    """What is there although everything was stopped: processes that know the stage's folder, VMs with its mark."""
    yield from stage.left_behind()
    owner = (stage.home / "installation-id").read_text().strip()
    for place in sampler.processes():
        if str(stage.folder).encode() in place.content or owner.encode() in place.content:
            yield f"{place.kind} of {place.name}"
    yield from (xml for xml in sampler.descriptions(URI) if owner in xml)
