"""`signalbox evidence`: exported where Signalbox runs, verified anywhere, with a public key and nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from engine.cli import cli
from engine.store import migrate
from engine.store.session import Database
from tests.integration.engine.conftest import Box
from tests.integration.engine.proof import Prover, live_through
from tests.services.postgres import Postgres

REPOSITORY = Path(__file__).parents[3]
BEFORE = "0001"


def command(prover: Prover, *argv: str) -> Result:
    """`signalbox ...` on the box's database and home."""
    prover.folder.chmod(0o700)
    url = prover.box.database.engine.url.render_as_string(hide_password=False)
    return CliRunner().invoke(cli, argv, env={"SIGNALBOX_HOME": str(prover.folder), "SIGNALBOX_DATABASE_URL": url})


def elsewhere(folder: Path, environ: Mapping[str, str], *argv: str) -> subprocess.CompletedProcess[str]:
    """`signalbox ...` as a process of its own in an empty folder."""
    folder.mkdir(exist_ok=True)
    start = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); from bot.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", start, *argv], env=environ, cwd=folder, capture_output=True, text=True, check=False
    )
    assert list(folder.iterdir()) == [], "verifying leaves nothing behind"
    return done


@pytest.fixture
def prover(box: Box, tmp_path: Path) -> Prover:
    made = Prover(box, tmp_path / "home")
    live_through(made)
    return made


@pytest.fixture(autouse=True)
def home(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()


def test_an_export_is_verified_in_an_empty_folder_with_an_empty_environment(prover: Prover, tmp_path: Path) -> None:
    file, pub = tmp_path / "inc-1.json", tmp_path / "pub.pem"
    pub.write_text(command(prover, "evidence", "key").stdout)
    assert command(prover, "evidence", "export", "INC-1", "-o", str(file)).exit_code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    verify = ("evidence", "verify", str(file), "--key", str(pub))

    for environ in ({}, {"SIGNALBOX_NONSENSE": "this would be refused", "SIGNALBOX_HOME": "/nowhere"}):
        done = elsewhere(tmp_path / "empty", environ, *verify)
        assert (done.returncode, done.stderr) == (0, "")
        assert "records hold; anchored up to event" in done.stdout

    file.write_bytes(file.read_bytes().replace(b"ToyBroken on toy", b"ToyBraken on toy", 1))
    done = elsewhere(tmp_path / "empty", {}, *verify)
    assert done.returncode == 1
    assert "incident 1 is not what event 1 of incident 1 (incident_opened" in done.stderr


def test_without_the_anchors_file_the_export_says_so_and_is_not_called_anchored(prover: Prover, tmp_path: Path) -> None:
    prover.path.unlink()
    file, pub = tmp_path / "inc-1.json", tmp_path / "pub.pem"
    pub.write_text(command(prover, "evidence", "key").stdout)

    said = command(prover, "evidence", "export", "1", "-o", str(file))

    assert said.exit_code == 0
    assert "there is no anchors file" in said.stderr
    refused = command(prover, "evidence", "verify", str(file), "--key", str(pub))
    assert refused.exit_code == 1
    assert "is not anchored" in refused.stderr


def test_another_key_is_refused(prover: Prover, tmp_path: Path) -> None:
    file, pub = tmp_path / "inc-1.json", tmp_path / "pub.pem"
    command(prover, "evidence", "export", "1", "-o", str(file))
    other = subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True, check=True).stdout
    pub.write_bytes(subprocess.run(["openssl", "pkey", "-pubout"], input=other, capture_output=True, check=True).stdout)

    refused = command(prover, "evidence", "verify", str(file), "--key", str(pub))

    assert refused.exit_code == 1
    assert "was signed with another key" in refused.stderr


def test_what_cannot_be_exported_is_said(prover: Prover) -> None:
    assert "there is no incident 7" in command(prover, "evidence", "export", "7").stderr
    assert "no number of an incident" in command(prover, "evidence", "export", "../1").stderr


@pytest.fixture
def older(url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Database:
    """A database as the first release left it, of the same kind as the box's."""
    if not url.startswith("sqlite"):
        server: Postgres = request.getfixturevalue("postgres")
        url = server.new_database()
    else:
        url = f"sqlite:///{tmp_path / 'older.db'}"
    database = Database(url)
    migrate.upgrade(database, BEFORE)
    return database


def test_incidents_of_the_first_release_are_sealed_and_verify(prover: Prover, older: Database) -> None:
    copy_history(prover.box.database, older)

    migrate.upgrade(older)
    prover.box.database, prover.anchoring.database = older, older
    prover.path.unlink()
    prover.anchor()

    report = prover.verified()
    assert report.unanchored == 0
    with older.transaction() as session, pytest.raises(Exception, match="append-only"):
        session.execute(sa.text("DELETE FROM event"))
    older.close()


def copy_history(source: Database, target: Database) -> None:
    """The same rows with the columns that there were; no event said anything of the rows beside it."""
    with source.engine.connect() as old, target.engine.begin() as new:
        for name in ("move", "incident", "run", "artefact", "attempt", "verdict", "approval", "escalation", "event"):
            had = sa.Table(name, sa.MetaData(), autoload_with=new, resolve_fks=False)
            has = sa.Table(name, sa.MetaData(), autoload_with=old, resolve_fks=False)
            query = sa.select(*(has.c[column.name] for column in had.c)).order_by(*has.primary_key.columns)
            rows = [dict(row) for row in old.execute(query).mappings()]
            if name == "event":
                rows = [{**row, "detail": {}} for row in rows]
                for row in rows:
                    del row["id"]  # the database counts on
            new.execute(sa.insert(had), rows)
