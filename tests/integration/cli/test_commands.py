"""The commands that a person types: what they print, and what they say when something is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from engine.domain.alert import Severity
from engine.domain.harness import NoteDraft
from engine.domain.incident import Person
from engine.store import incidents
from engine.store.session import Database
from tests.integration.cli.conftest import RUNBOOKS, Signalbox

pytestmark = pytest.mark.timeout(180)

GROUPS = {
    (): (
        "up",
        "doctor",
        "migrate",
        "database",
        "worker",
        "settings",
        "kill-switch",
        "alert",
        "runbook",
        "grants",
        "simulate",
        "image",
        "secrets",
        "incident",
        "harness",
        "evidence",
        "vm",
        "agent",
    ),
    ("agent",): ("eval",),
    ("database",): ("grants",),
    ("alert",): ("send",),
    ("runbook",): ("new", "lint", "test", "graph", "show", "diff", "schema", "activate"),
    ("image",): ("build", "list", "verify", "import", "gc"),
    ("vm",): ("list", "kill", "logs"),
    ("secrets",): ("plan", "put"),
    ("incident",): ("list",),
    ("harness",): ("list", "show"),
    ("evidence",): ("key", "export", "verify"),
}
ALERT = b'{"version": "4", "status": "firing", "alerts": []}'


def clear(text: str) -> str:
    """What a person was told; a traceback is not told to people."""
    assert "Traceback" not in text
    return text


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: " ".join(group) or "signalbox")
def test_help_lists_the_commands_each_with_a_sentence(signalbox: Signalbox, group: tuple[str, ...]) -> None:
    said = signalbox(*group, "--help")

    assert said.code == 0
    lines = dict(line.strip().split(maxsplit=1) for line in said.out.splitlines() if len(line.split()) > 1)
    for name in GROUPS[group]:
        assert len(lines[name]) > 5, name


def test_help_and_an_unknown_command_touch_nothing(signalbox: Signalbox) -> None:
    """Reading about it is no installation."""
    signalbox("--help")
    said = signalbox("lunch")

    assert said.code == 2
    assert "No such command 'lunch'" in said.err
    assert not (signalbox.folder / "home").exists()


def test_migrate_is_repeatable(signalbox: Signalbox) -> None:
    first, second = signalbox("migrate"), signalbox("migrate")

    assert first.code == second.code == 0
    assert first.out == second.out
    assert first.out.startswith("sqlite is at revision ")
    assert (signalbox.folder / "home" / "signalbox.db").exists()


@pytest.mark.parametrize("argv", [("migrate",), ("incident", "list"), ("doctor",)], ids=" ".join)
def test_the_home_is_ours_alone_and_one_that_is_open_to_others_is_refused(
    signalbox: Signalbox, argv: tuple[str, ...]
) -> None:
    """Refused and not closed by us: it might be /tmp."""
    home = signalbox.folder / "home"
    signalbox(*argv)
    assert home.stat().st_mode & 0o777 == 0o700

    home.chmod(0o755)
    said = signalbox(*argv)
    assert said.code != 0
    assert "open to other users" in said.err + said.out
    assert home.stat().st_mode & 0o777 == 0o755


def test_migrate_says_why_a_database_cannot_be_opened(signalbox: Signalbox) -> None:
    signalbox.set["DATABASE_URL"] = f"sqlite:///{signalbox.folder}"

    said = signalbox("migrate")

    assert said.code == 1
    assert "database" in clear(said.err)


def test_settings_show_every_name_and_hide_every_secret(signalbox: Signalbox) -> None:
    """Secrets, and passwords inside URLs."""
    secret_file = signalbox.folder / "secret"
    secret_file.write_text("hunter2-in-a-file\n")
    signalbox.set |= {
        "SLACK_BOT_TOKEN": "xoxb-hunter2",
        "SLACK_SIGNING_SECRET_FILE": str(secret_file),
        "ALERTMANAGER_TOKEN": "hunter2-alert-token",
        "DATABASE_URL": "postgresql+psycopg://us%40er:hunter2%3Apassword@db.example:5432/signalbox",
        "PROMETHEUS_URL": "https://reader:hunter2-too@metrics.example/prom",
        "APPROVERS": "U1 U2",
    }

    said = signalbox("settings")

    assert said.code == 0
    assert "hunter2" not in said.out + said.err
    assert "SIGNALBOX_SLACK_BOT_TOKEN=(set, hidden)" in said.out
    assert "SIGNALBOX_SLACK_SIGNING_SECRET=(set, hidden)" in said.out
    assert "SIGNALBOX_VAULT_SECRET_ID=   # " in said.out
    assert "SIGNALBOX_APPROVERS=U1 U2 " in said.out
    assert "us%40er:(hidden)@db.example:5432/signalbox" in said.out
    assert f"SIGNALBOX_HOME={signalbox.folder / 'home'} " in said.out


def test_what_settings_print_can_be_read_back(signalbox: Signalbox) -> None:
    """The values are in the form in which they are given."""
    shown = {}
    for line in signalbox("settings").out.splitlines():
        name, _, value = line.partition("   # ")[0].partition("=")
        shown[name.removeprefix("SIGNALBOX_")] = value
    again = Signalbox(signalbox.folder, {})
    again.set |= {name: value for name, value in shown.items() if value}

    assert again("settings").out == signalbox("settings").out


def test_an_unknown_name_is_an_error_that_names_it(signalbox: Signalbox) -> None:
    """A mistyped setting must not be a silent default."""
    signalbox.set["APROVERS"] = "U1"

    for argv in (["settings"], ["migrate"], ["up"], ["doctor"]):
        said = signalbox(*argv)
        assert said.code == 1
        assert "SIGNALBOX_APROVERS" in clear(said.err)
        assert "signalbox settings" in said.err
        assert ("SIGNALBOX_APPROVERS   # " in said.out) == (argv == ["settings"])
    assert not (signalbox.folder / "home").exists()


def test_worker_refuses_sqlite_and_says_why(signalbox: Signalbox) -> None:
    said = signalbox("worker")

    assert said.code == 1
    assert "on SQLite one process does everything" in clear(said.err)
    assert "-> run: signalbox up" in said.err


# -- alerts


def test_alert_send_without_a_server_says_what_to_do(signalbox: Signalbox) -> None:
    signalbox.set["ALERTMANAGER_TOKEN"] = "a-token"
    file = signalbox.folder / "alert.json"
    file.write_bytes(ALERT)

    said = signalbox("alert", "send", str(file))

    assert said.code == 1
    assert f"nobody answers at {signalbox.url}/alerts/alertmanager" in clear(said.err)
    assert "-> start it: signalbox up" in said.err


@pytest.mark.parametrize("token", [None, "", " \n"])
def test_alert_send_without_a_token_says_which_setting_is_missing(signalbox: Signalbox, token: str | None) -> None:
    if token is not None:
        signalbox.set["ALERTMANAGER_TOKEN"] = token
    file = signalbox.folder / "alert.json"
    file.write_bytes(ALERT)

    said = signalbox("alert", "send", str(file))

    assert said.code == 1
    assert "-> set SIGNALBOX_ALERTMANAGER_TOKEN_FILE" in clear(said.err)


@pytest.fixture
def receiver(signalbox: Signalbox) -> Iterator[list[tuple[str, str, bytes]]]:
    """Something answers 401 where Signalbox would listen, and keeps what it got: path, Authorization, body."""
    got: list[tuple[str, str, bytes]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, self.headers["Authorization"], body))
            self.send_response(401)
            self.end_headers()
            self.wfile.write(b'{"reason": "not authenticated"}')

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    host, _, port = signalbox.set["LISTEN"].partition(":")
    with HTTPServer((host, int(port)), Hook) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield got
        server.shutdown()
        thread.join(10)


def test_alert_send_posts_the_file_as_the_source_would_and_fails_when_it_is_not_taken(
    signalbox: Signalbox, receiver: list[tuple[str, str, bytes]]
) -> None:
    file = signalbox.folder / "alert.json"
    file.write_bytes(ALERT)
    signalbox.set["ALERTMANAGER_TOKEN"] = "first-token second-token"

    said = signalbox("alert", "send", str(file))

    assert receiver == [("/alerts/alertmanager", "Bearer first-token", ALERT)]
    assert said.code == 1
    assert said.out == '401 {"reason": "not authenticated"}\n'


def test_alert_send_takes_a_file_that_is_there(signalbox: Signalbox) -> None:
    said = signalbox("alert", "send", "nowhere.json")

    assert said.code == 2
    assert "'nowhere.json' does not exist" in said.err


# -- runbooks


def test_runbook_lint_says_that_ours_are_clean(signalbox: Signalbox) -> None:
    (signalbox.folder / "images" / "terraform").mkdir(parents=True)  # who uses Terraform brings an image with it

    said = signalbox("runbook", "lint")

    assert said.code == 0
    assert "disk-full: 9 steps, sha256:" in said.out
    assert ", clean" in said.out


@pytest.fixture
def shelf(signalbox: Signalbox) -> Path:
    """A copy of our runbooks that may be broken."""
    folder = signalbox.folder / "runbooks"
    shutil.copytree(RUNBOOKS, folder)
    signalbox.set["RUNBOOKS"] = str(folder)
    return folder / "disk-full.yaml"


def test_runbook_lint_says_file_line_what_and_how_to_mend_it(signalbox: Signalbox, shelf: Path) -> None:
    lines = shelf.read_text().splitlines()
    number = next(n for n, line in enumerate(lines, start=1) if line.strip() == "timeout: 3m")
    lines[number - 1] = "    timeout: soon"
    shelf.write_text("\n".join(lines))

    said = signalbox("runbook", "lint", "disk-full")

    assert said.code == 1
    assert f"{shelf}:{number}:5:" in clear(said.err)
    assert "timeout" in said.err
    assert "clean" not in said.out


def test_runbook_lint_names_every_broken_runbook_and_still_checks_the_others(signalbox: Signalbox, shelf: Path) -> None:
    shelf.with_name("broken.yaml").write_text("schema: runbook/v1\nname: broken\n")
    shelf.with_name("torn.yaml").write_text("schema: [\n")

    said = signalbox("runbook", "lint")

    assert said.code == 1
    assert "broken.yaml" in clear(said.err)
    assert "torn.yaml:" in said.err
    assert "disk-full: 9 steps" in said.out


def test_runbook_lint_of_an_unknown_name_says_so(signalbox: Signalbox) -> None:
    said = signalbox("runbook", "lint", "lunch")

    assert said.code == 1
    assert "lunch" in clear(said.err)
    [remedy] = [line for line in said.err.splitlines() if "-> there is " in line]
    assert "disk-full" in remedy


# -- images, secrets, incidents, the harness


@pytest.mark.vm
@pytest.mark.timeout(1800)  # the first time on a machine, the image is built
def test_image_build_does_nothing_when_it_is_up_to_date(signalbox: Signalbox, vm_images: Path) -> None:
    signalbox.set["IMAGES"] = str(vm_images)
    before = {path: path.stat().st_mtime_ns for path in (vm_images / "step").iterdir()}

    said = signalbox("image", "build")

    assert said.code == 0
    assert said.out == f"image step: up to date in {vm_images / 'step'}\n"
    assert {path: path.stat().st_mtime_ns for path in (vm_images / "step").iterdir()} == before


def test_secrets_without_a_running_openbao_say_what_to_start(signalbox: Signalbox) -> None:
    file = signalbox.folder / "key"
    file.write_text("a secret value")

    for argv in (["secrets", "plan"], ["secrets", "put", "kv/data/a", "field=@key"]):
        said = signalbox(*argv)
        assert said.code == 1
        assert "the embedded OpenBao does not run" in clear(said.err)
        assert "-> start it: signalbox up" in said.err


@pytest.mark.parametrize("argv", [("plan",), ("put", "kv/data/a", "field=@key")], ids=lambda argv: argv[0])
def test_an_administrators_token_is_not_taken_from_the_command_line(
    signalbox: Signalbox, argv: tuple[str, ...]
) -> None:
    said = signalbox("secrets", *argv, "--token", "hunter2-hunter2")

    assert said.code == 2
    assert "No such option" in said.err
    assert "hunter2" not in said.err


def test_secrets_put_refuses_a_value_on_the_command_line_without_repeating_it(signalbox: Signalbox) -> None:
    """Everybody on the machine can read the arguments of a process."""
    said = signalbox("secrets", "put", "kv/data/a", "private_key=hunter2-hunter2")

    assert said.code == 1
    assert "mode 0600" in clear(said.err)
    assert "hunter2" not in said.err


def test_secrets_put_names_a_file_that_is_not_there(signalbox: Signalbox) -> None:
    said = signalbox("secrets", "put", "kv/data/a", "private_key=@nowhere")

    assert said.code == 1
    assert "nowhere" in clear(said.err)


def test_before_the_first_start_there_is_no_incident_and_no_note(signalbox: Signalbox) -> None:
    """An empty database, and none at all, are told apart from a crash."""
    for prepared in (False, True):
        if prepared:
            signalbox("migrate")
        listed, shown = signalbox("incident", "list"), signalbox("harness", "show", "7")
        if prepared:
            assert (listed.code, listed.out) == (0, "")
            assert json.loads(signalbox("incident", "list", "--json").out) == []
            assert "there is no harness note 7" in shown.err
        else:
            assert listed.code == 1
            assert "signalbox migrate" in clear(listed.err)
        assert shown.code == 1
        assert "->" in clear(shown.err)


def test_harness_notes_are_listed_and_shown(signalbox: Signalbox) -> None:
    """What people wrote cannot move the cursor of whoever reads it."""
    signalbox("migrate")
    now = datetime(2026, 1, 1, tzinfo=UTC)
    database = Database(f"sqlite:///{signalbox.folder / 'home' / 'signalbox.db'}")
    with database.transaction() as session:
        row = incidents.open_incident(session, key="k", title="t", severity=Severity.WARNING, opened_by="a", now=now)
        draft = NoteDraft(
            id=3, by=Person(id="U1", name="ana"), at=now, steps={}, what="w", change="c", rule="Look\x1b[2J twice"
        )
        incidents.add_note(session, number=row.number, draft=draft, patch="the patch\n")
        number = row.number
    database.close()

    assert signalbox("harness", "list").out == f"3  INC-{number}  Look [2J twice\n"
    assert signalbox("harness", "show", "3").out == "the patch\n"
    assert "-> signalbox harness list" in signalbox("harness", "show", "4").err
