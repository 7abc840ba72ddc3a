"""Evidence of real runs: what was forged in the database is found in the export, offline, and named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from sqlalchemy.orm import Session

from engine.domain.chain import EMPTY, Head, Link
from engine.domain.digest import canonical
from engine.domain.errors import SignalboxError
from engine.domain.ports import Ending
from engine.domain.states import Decision
from engine.evidence.verify import Broken, Report
from engine.orchestration.watch import Watch
from engine.service import People, Service
from engine.store import models
from tests.doubles.engine import FakeHarness, ended
from tests.integration.engine.conftest import ANA, Box
from tests.integration.engine.proof import Prover, live_through, recompute


@pytest.fixture
def prover(box: Box, tmp_path: Path) -> Prover:
    """An incident that was lived through and anchored to its end."""
    made = Prover(box, tmp_path)
    live_through(made)
    return made


def sql(*statements: str) -> Callable[[Session], None]:
    """A forger's statements."""

    def forge(session: Session) -> None:
        for statement in statements:
            session.execute(sa.text(statement))

    return forge


def edited_and_recomputed(session: Session) -> None:
    sql("UPDATE event SET text = 'nothing happened' WHERE seq = 6")(session)
    recompute(session)


def moved_and_recomputed(session: Session) -> None:
    sql(*SWAPPED)(session)
    recompute(session)


def cut_with_its_head(session: Session) -> None:
    sql("DELETE FROM event WHERE seq > 20")(session)
    recompute(session)


def copied(table: str, *, where: str) -> str:
    """Put a second row in, like one that is there."""
    columns = [column.name for column in models.Base.metadata.tables[table].columns]
    names = ", ".join(f'"{name}"' for name in columns)
    values = ", ".join("'put-in'" if name == "id" else f'"{name}"' for name in columns)
    return f"INSERT INTO {table} ({names}) SELECT {values} FROM {table} WHERE {where}"  # noqa: S608  # our own columns


SWAPPED = (
    "UPDATE event SET seq = 999 WHERE seq = 5",
    "UPDATE event SET seq = 5 WHERE seq = 6",
    "UPDATE event SET seq = 6 WHERE seq = 999",
)
FORGED: dict[str, tuple[Callable[[Session], None], str]] = {
    "an edited event": (
        sql("UPDATE event SET text = 'it held' WHERE seq = 7"),
        r"event 7 of incident 1 \(\w+ at 2026.*: its hash does not match: it, or an event before it, was edited",
    ),
    "another actor": (sql("UPDATE event SET actor = 'UEVE' WHERE seq = 7"), "event 7 .*was edited"),
    "a deleted event": (sql("DELETE FROM event WHERE seq = 7"), "event 7 of incident 1 is missing: it was deleted"),
    "a deleted first event": (sql("DELETE FROM event WHERE seq = 1"), "event 1 of incident 1 is missing"),
    "a reordered pair": (sql(*SWAPPED), "event 5 .* stands where event 6 belongs: they changed places"),
    "a tail cut off": (sql("DELETE FROM event WHERE seq > 20"), "event 21 .* is missing.*the tail was cut off"),
    "a tail cut off with its head": (cut_with_its_head, "event 21 .*the anchor of .* saw event .*the tail was cut off"),
    "a recomputed chain": (edited_and_recomputed, "is not the one that was anchored.*without the signing key"),
    "a recomputed order": (moved_and_recomputed, "is not the one that was anchored.*without the signing key"),
    "evidence of a verdict": (
        sql("UPDATE verdict SET checks = '[]' WHERE leg = 'healthy'"),
        r"verdict \w+ is not what event \d+ of incident 1 \(gate_failed .* says of it: it was edited",
    ),
    "a verdict": (sql("UPDATE verdict SET verdict = 'held' WHERE leg = 'healthy'"), r"verdict \w+ is not what event"),
    "the gate of a verdict": (sql("UPDATE verdict SET leg = 'other' WHERE leg = 'healthy'"), r"verdict \w+ is not"),
    "output of an attempt": (
        sql("UPDATE attempt SET stdout = 'all well' WHERE leg = 'production'"),
        r"the result of attempt \w+ is not what event \d+",
    ),
    "the target of an attempt": (
        sql("UPDATE attempt SET target = 'staging' WHERE leg = 'production'"),
        r"the start of attempt \w+ is not what event \d+",
    ),
    "who decided": (
        sql("UPDATE decision SET by_name = 'Eve', \"by\" = 'UEVE' WHERE choice = 'roll_back'"),
        r"decision \w+ is not what event \d+",
    ),
    "what was shown": (
        sql("UPDATE approval SET preview = 'harmless' WHERE preview <> ''"),
        r"approval \w+ is not what",
    ),
    "the runbook": (sql("UPDATE run SET source = 'another'"), r"run \w+ is not what event \d+"),
    "the title": (sql("UPDATE incident SET title = 'a drill'"), "incident 1 is not what event 1"),
    "a verdict taken away": (
        sql("DELETE FROM verdict WHERE leg = 'healthy'"),
        r"verdict \w+ is missing: event \d+ .* speaks of it, so it was deleted",
    ),
    "a decision taken away": (sql("DELETE FROM decision WHERE choice = 'extend'"), r"decision \w+ is missing"),
    "a verdict put in": (sql(copied("verdict", where="leg = 'healthy'")), "no event speaks of verdict put-in"),
    "a decision put in": (sql(copied("decision", where="choice = 'extend'")), "no event speaks of decision put-in"),
    "an attempt put in": (
        sql(copied("attempt", where="leg = 'fix'")),
        "no event speaks of the start of attempt put-in",
    ),
    "a head": (sql("UPDATE incident SET head_hash = 'sha256:00'"), "the incident's own row says"),
}


def test_what_was_forged_in_the_database_is_found_and_named(prover: Prover) -> None:
    unfound = {}
    for name, (forge, words) in FORGED.items():
        with prover.forging() as session:
            forge(session)
            try:
                report = prover.verify(prover.export(session))
            except Broken as broken:
                if not re.search(words, str(broken), re.DOTALL):
                    unfound[name] = str(broken)
            else:
                unfound[name] = f"holds: {report}"

    assert unfound == {}
    whole = prover.verified()
    assert whole.unanchored == 0
    assert whole.events > 30


def test_events_after_the_last_anchor_are_counted_and_no_error(prover: Prover) -> None:
    prover.box.service.close(1, ANA)

    assert prover.verified().unanchored == 1

    prover.anchor()
    assert prover.verified().unanchored == 0


def test_what_came_since_the_last_round_is_anchored_when_the_process_ends(prover: Prover) -> None:
    prover.anchoring.start()
    prover.box.service.close(1, ANA)
    prover.anchoring.stop(30)

    assert prover.verified().unanchored == 0


def test_without_an_anchor_nothing_is_called_anchored(prover: Prover) -> None:
    prover.path.write_bytes(b"")

    with pytest.raises(Broken, match="not anchored"):
        prover.verified()


def test_every_end_of_an_attempt_is_bound_to_the_chain(box: Box, tmp_path: Path) -> None:
    """Lost with its worker, asked for again, back late, cut off by a person: and NUL in what it printed."""
    prover = Prover(box, tmp_path)

    def dies() -> Any:
        box.restart()  # another process takes up the run while this one still works on it
        return replace(ended(), stdout="came back\x00late")

    box.hypervisor.behaviour["staging:rehearse"] = dies
    box.fire()
    box.go()
    run = box.run()
    late = [attempt for attempt in run.attempts if attempt.leg == "staging:rehearse"]
    assert [attempt.state for attempt in late] == ["unknown"]
    kinds = [event.kind for event in box.incident().events]
    assert "late_result_kept" in kinds

    box.service.decide(run.escalations[-1].token, ANA, Decision.ABANDON, reason="enough")
    prover.anchor()

    assert prover.verified().unanchored == 0


def test_a_run_abandoned_in_the_middle_of_a_step_leaves_its_end_in_the_chain(box: Box, tmp_path: Path) -> None:
    prover, reports = Prover(box, tmp_path), list[Report]()

    def abandoned() -> Any:
        box.service.abandon(1, ANA, "stop it")
        prover.anchor()
        reports.append(prover.verified())  # before the step comes back, which is said by an event of its own
        return ended(Ending.CANCELLED, None, "cancelled")

    box.hypervisor.behaviour["fix"] = abandoned
    box.fire()
    box.go()
    prover.anchor()

    assert [report.unanchored for report in (*reports, prover.verified())] == [0, 0]


def test_a_chain_that_was_cut_makes_the_service_unwell_and_stops_nothing(prover: Prover) -> None:
    box = prover.box
    assert box.service.healthy().get("evidence") is None
    watch = Watch(box.database, box.adapters, prover.anchoring)
    service = Service(box.database, box.adapters, watch, box.worker, People(approvers=("UANA",)), FakeHarness())

    with box.database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE incident SET head_seq = head_seq - 3"))
    prover.anchoring.round()

    assert "the chain of incident 1 was anchored at event" in service.healthy()["evidence"]


def test_a_file_that_cannot_be_written_is_told_and_tried_again(prover: Prover) -> None:
    box = prover.box
    kept = prover.path.read_bytes()
    prover.path.unlink()
    prover.path.mkdir()
    box.service.close(1, ANA)
    prover.anchoring.round()

    assert "cannot write" in prover.anchoring.unwell["evidence"]

    prover.path.rmdir()
    prover.path.write_bytes(kept)
    prover.anchor()
    assert prover.verified().unanchored == 0


# -- any single mutation


Path_ = tuple[str | int, ...]


def places(value: Any, here: Path_ = ()) -> list[Path_]:
    """Where something can be changed: every value, however deep."""
    inner: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    if isinstance(value, list):
        inner = list(enumerate(value))
    return [here] * bool(here) + [place for name, item in inner for place in places(item, (*here, name))]


def changed(value: Any, draw: Callable[[Any], Any]) -> Any:
    """Another value of its kind."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + draw(st.sampled_from([1, -1, 1000]))
        case str():
            at = draw(st.integers(0, len(value)))
            return draw(st.sampled_from([value[:at] + "x" + value[at:], value[: max(0, at - 1)] + value[at:] + "\x00"]))
        case None:
            return draw(st.sampled_from(["", 0, {}]))
        case list():
            return [*value, draw(st.sampled_from([None, *value]))]
        case _:
            return {**value, "put in": 1}


def mutated(document: Any, draw: Callable[[Any], Any]) -> Any:
    """The document with one thing changed: edited, deleted, put in twice, or moved."""
    copy = json.loads(json.dumps(document))
    place = draw(st.sampled_from(places(copy)))
    parent = copy
    for name in place[:-1]:
        parent = parent[name]
    name = place[-1]
    ways = ["edit", "delete"] + ["swap", "twice"] * isinstance(parent, list)
    match draw(st.sampled_from(ways)):
        case "edit":
            parent[name] = changed(parent[name], draw)
        case "delete":
            del parent[name]
        case "twice":
            parent.insert(name, parent[name])
        case _:
            other = draw(st.integers(0, len(parent) - 1))
            parent[name], parent[other] = parent[other], parent[name]
    return copy


LINK = TypeAdapter(Link)


def chained_anew(document: Any) -> None:
    """Recompute every hash of an export, and its head."""
    head = EMPTY
    for event in document["dossier"]["events"]:
        read = LINK.validate_python(event["link"])
        head = Head(read.seq, read.hash(head.hash))
        event["hash"] = head.hash
    document["dossier"]["head"] = {"seq": head.seq, "hash": head.hash}


def test_any_single_mutation_of_an_export_is_found(prover: Prover) -> None:
    with prover.box.database.reading() as session:
        data = prover.export(session)
    whole, untouched = prover.verify(data), json.loads(data)
    assert whole.unanchored == 0

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def found(given_: st.DataObject) -> None:
        document = mutated(untouched, given_.draw)
        same = canonical(document) == canonical(untouched)
        try:
            report = prover.verify(json.dumps(document).encode())
        except SignalboxError:
            assert not same
            return
        # the newest anchors may be left out: then the report says that less is anchored
        assert same or report.unanchored > 0, "a mutation went unseen"

    found()


def test_an_export_whose_chain_was_recomputed_is_found(prover: Prover) -> None:
    with prover.box.database.reading() as session:
        data = prover.export(session)
    count = len(json.loads(data)["dossier"]["events"])

    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, count - 1))
    def found(place: int) -> None:
        document = json.loads(data)
        document["dossier"]["events"][place]["link"]["text"] += " (or so)"
        chained_anew(document)
        with pytest.raises(Broken, match="without the signing key"):
            prover.verify(json.dumps(document).encode())

    found()
