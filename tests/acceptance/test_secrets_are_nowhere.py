"""Every secret of the demo, in every encoding that we know, is found nowhere; and a leak anywhere would be found.

Every step of this play printed its secrets in nineteen shapes, so it is the redactor that is looked at here, too.
"""

from __future__ import annotations

import base64
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance import places, sampler, telling
from tests.acceptance.finder import Kind, Leak, Place
from tests.acceptance.story import Story

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]

WITNESSES = {
    Kind.DATABASE: ("event.kind", b"approval_requested"),
    Kind.DATABASE_FILE: ("signalbox.db-wal", b"approval_requested"),
    Kind.ARTEFACT: ("fix.json", b"log_level"),
    Kind.DOMAIN_XML: ("signalbox-", b"xmlns/vm/1"),
    Kind.LIBVIRT_LOG: ("signalbox-", b"qemu-system-x86_64"),
    Kind.ARGV: ("guest=signalbox-", b"rootfs.erofs"),
    Kind.ENVIRON: ("signalbox up", b"SIGNALBOX_SLACK_BOT_TOKEN_FILE="),
    Kind.RECEIVED: ("the workspace", b"chat.postMessage"),
    Kind.PAGE: ("/incidents/1", b"What each gate measured"),
    Kind.OUR_LOG: ("signalbox.log", b"signalbox is up"),
    Kind.FILE: ("audit.log", b"request"),
}
""" Kind -> a part of a place's name, and what stands in one such place: so it was really looked at. """

FIRST_START = "openbao.new/bao.hcl"
""" OpenBao initialises itself from its environment: https://openbao.org/docs/configuration/self-init/ """


def allowed(leak: Leak) -> bool:
    """The first OpenBao of a new home, alive for a second, is given its first credentials by environment."""
    return leak.kind is Kind.ENVIRON and FIRST_START in leak.place and leak.secret.startswith("openbao ")


def test_every_kind_of_place_was_really_looked_at(story: Story) -> None:
    assert story.sampling_error is None
    for kind in Kind:
        name, content = WITNESSES[kind]
        assert any(place.kind is kind and name in place.name and content in place.content for place in story.places), (
            kind
        )


def test_the_steps_really_printed_their_secrets(story: Story) -> None:
    """Each was masked; without this the next test could pass because nobody said anything."""
    for leg in ("diagnose", "staging:rehearse", "staging:rollback", "staging", "production"):
        [attempt] = [each for each in story.run.attempts if each.leg == leg]
        for text in (attempt.stdout, attempt.stderr):
            assert text.count("chatter: ") >= 19, leg
            assert "\u2039secret:ssh\u203a" in text


def test_six_keys_a_canary_and_every_token_are_looked_for_in_many_shapes(story: Story) -> None:
    needles = story.finder.needles

    assert len([name for name in needles if name.startswith("ssh key ")]) == 6
    assert {"canary", "slack-bot-token", "slack-signing-secret", "alert token", "openbao bot.secret_id"} <= set(needles)
    assert all(len(shapes) >= 15 for shapes in needles.values())


def test_no_planted_secret_is_found_anywhere(story: Story) -> None:
    leaks = [leak for leak in story.finder.search(story.places) if not allowed(leak)]

    assert leaks == []


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in (Kind.ARGV, Kind.ENVIRON)])
def test_a_leak_in_a_copy_of_such_a_place_is_found_and_named(story: Story, kind: Kind) -> None:
    """Base64 of each secret, put into the middle of what was collected."""
    place = max((place for place in story.places if place.kind is kind), key=lambda place: len(place.content))
    middle = len(place.content) // 2
    for name in story.finder.needles:
        leak = base64.b64encode(story.finder.secrets[name].encode())
        leaky = Place(kind, place.name, place.content[:middle] + leak + place.content[middle:])
        assert story.finder.search([leaky]) == [Leak(name, kind, place.name)]


@pytest.mark.parametrize("kind", [Kind.ARGV, Kind.ENVIRON])
def test_a_leak_in_a_real_process_is_found_and_named(story: Story, kind: Kind) -> None:
    leak = base64.b64encode(story.finder.secrets["canary"].encode()).decode()
    argv = [sys.executable, "-c", "import time; time.sleep(60)", leak if kind is Kind.ARGV else ""]
    environ = {"PATH": os.environ["PATH"]} | ({"LEAK": leak} if kind is Kind.ENVIRON else {})
    with subprocess.Popen(argv, env=environ) as process:
        try:
            # a process that was only just made shows no arguments yet: the sampler, too, looks again and again
            telling.wait(lambda: story.finder.search(sampler.processes()), 10, "the leak to be seen")
            found = story.finder.search(sampler.processes())
        finally:
            process.kill()

    assert {(each.secret, each.kind) for each in found} == {("canary", kind)}


def test_a_leak_in_a_real_database_is_found_in_its_column_and_in_its_write_ahead_log(
    story: Story, tmp_path: Path
) -> None:
    """Also one so long that it lies torn over several pages of the file."""
    path = tmp_path / "signalbox.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE attempt (id TEXT, stdout TEXT)")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        leak = base64.b64encode(
            ("x" * 3 * 1365 + story.finder.secrets["ssh key production/operator"]).encode()
        ).decode()
        connection.execute("INSERT INTO attempt VALUES ('a', ?)", (leak,))
        connection.execute("INSERT INTO attempt VALUES ('b', ?)", (story.finder.secrets["alert token"][::-1],))
        connection.commit()
        columns = story.finder.search(places.database(path))
        files = story.finder.search(places.files(tmp_path, ()))

    assert {(each.secret, each.place) for each in columns} == {
        ("ssh key production/operator", "attempt.stdout"),
        ("alert token", "attempt.stdout"),
    }
    assert ("alert token", "signalbox.db-wal") in {(each.secret, each.place) for each in files}


def test_the_one_exception_is_no_wider_than_it_says() -> None:
    """Its other secrets, its arguments, and every later OpenBao are not excused."""
    assert allowed(Leak("openbao admin.password", Kind.ENVIRON, f"bao server -config=/x/{FIRST_START}"))
    assert not allowed(Leak("openbao admin.password", Kind.ARGV, f"bao server -config=/x/{FIRST_START}"))
    assert not allowed(Leak("openbao admin.password", Kind.ENVIRON, "bao server -config=/x/openbao/bao.hcl"))
    assert not allowed(Leak("canary", Kind.ENVIRON, f"bao server -config=/x/{FIRST_START}"))
