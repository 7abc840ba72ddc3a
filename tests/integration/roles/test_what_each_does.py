"""Everything that the bot and the worker do, each with its own role: nothing that they need is refused."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from engine.domain.alert import Severity
from engine.domain.errors import BadInput, Refused
from engine.domain.incident import MessageRef
from engine.domain.ports import TaskResult
from engine.domain.states import ApprovalState, AttemptState, Decision, IncidentState, RunState, Verdict
from engine.orchestration.fleet import Fleet
from engine.orchestration.journal import Journal
from engine.store import claims, grants, migrate, runs, tokens
from engine.store.models import Base
from engine.store.session import Database
from tests.doubles.engine import ended
from tests.integration.engine.conftest import ANA, BEN, CLEO
from tests.integration.engine.test_crash import Killed, die_in
from tests.integration.roles.conftest import OWNER, Roles, TwoRoles, ask_about_a_call

WITHIN_S = 20


def test_every_table_has_its_rule_and_every_rule_its_columns() -> None:
    assert {model.__tablename__ for model in grants.OURS} == set(Base.metadata.tables)
    for model, rule in grants.OURS.items():
        named = {*rule.bot.columns, *rule.worker.columns}
        assert named <= set(model.__table__.columns.keys()), model.__tablename__


def test_every_table_sequence_and_function_of_the_database_is_spoken_of(granted: Roles) -> None:
    """Also those of a newer Procrastinate: what is new there is granted to nobody before somebody thought about it."""
    owner = sa.create_engine(granted.of(OWNER))
    tables = set(sa.inspect(owner).get_table_names())
    with owner.connect() as connection:
        sequences = set(connection.scalars(sa.text("SELECT sequencename FROM pg_sequences")))
        functions = set(
            connection.scalars(sa.text("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"))
        )
    owner.dispose()

    script = grants.script(database="any")
    assert tables == set(grants.rules())
    unused = {"procrastinate_workers_id_seq", "activation_id_seq"}  # an identity; only the owner adds to it
    assert {name for name in sequences if f'"{name}"' not in script} == unused
    assert functions >= {*grants.SENDS, *grants.TAKES}


def test_from_alert_to_close(box: TwoRoles) -> None:
    box.service.approve(box.until_approval(), ANA, yes=True)
    box.go()
    assert box.run().state is RunState.COMPLETED

    box.fire(b"ToyBroken resolved")
    assert box.incident().state is IncidentState.CLOSED


def test_the_worker_closes_what_the_source_had_ended(box: TwoRoles) -> None:
    def resolved_meanwhile() -> TaskResult:
        box.fire(b"ToyBroken resolved")
        return ended()

    box.hypervisor.behaviour["production"] = resolved_meanwhile
    box.service.approve(box.until_approval(), ANA, yes=True)
    box.go()

    assert (box.run().state, box.incident().state) == (RunState.COMPLETED, IncidentState.CLOSED)


def test_a_halt_a_retry_and_a_rollback(box: TwoRoles) -> None:
    box.gates.verdicts["tests-inside"] = Verdict.FAILED
    box.fire()
    box.go()
    assert box.run().state is RunState.HALTED
    del box.gates.verdicts["tests-inside"]
    box.service.decide(box.run().escalations[-1].token, ANA, Decision.RETRY)
    box.go()

    box.gates.verdicts["healthy-outside"] = Verdict.FAILED
    box.service.approve(box.run().approvals[-1].token, BEN, yes=True)
    box.go()
    box.service.decide(box.run().escalations[-1].token, BEN, Decision.ROLL_BACK)
    box.go()
    assert box.run().state is RunState.ROLLED_BACK


def test_a_reject_a_take_over_and_a_new_run(box: TwoRoles) -> None:
    box.service.approve(box.until_approval(), ANA, yes=False, reason="not now")
    box.service.decide(box.run().escalations[-1].token, ANA, Decision.TAKE_OVER)
    box.service.close(box.incident().number, ANA)
    assert box.run().state is RunState.TAKEN_OVER

    assert box.service.declare(ANA, "it is slow", Severity.HIGH, "toy").runs[-1].state is RunState.QUEUED
    token = box.service.declare(CLEO, "it is slow too", Severity.HIGH, None).choose_token
    assert token is not None
    assert box.service.choose_runbook(token, ANA, "toy").runs[-1].state is RunState.QUEUED


def test_the_source_resolves_before_the_change_and_a_person_goes_on(box: TwoRoles) -> None:
    box.service.approve(box.until_approval(), ANA, yes=True)
    box.fire(b"ToyBroken resolved")
    box.go()
    assert box.run().state is RunState.HALTED
    box.service.decide(box.run().escalations[-1].token, ANA, Decision.RETRY)
    box.go()
    box.service.approve(box.run().approvals[-1].token, ANA, yes=True)
    box.go()
    assert box.run().state is RunState.COMPLETED


def test_abandoning_in_the_middle_of_a_step(box: TwoRoles) -> None:
    def abandoned_meanwhile() -> TaskResult:
        box.service.abandon(1, ANA, "stop")
        return ended()

    box.hypervisor.behaviour["staging"] = abandoned_meanwhile
    box.fire()
    box.go()
    box.round()

    run = box.run()
    assert run.state is RunState.ABANDONED
    assert run.attempts[-1].state is AttemptState.UNKNOWN
    assert "late_result_kept" in {event.kind for event in box.incident().events}


def test_what_was_approved_is_changed_before_and_after_the_click(box: TwoRoles) -> None:
    token = box.until_approval()
    box.hypervisor.image = b"another image"
    with pytest.raises(Refused, match="void"):
        box.service.approve(token, ANA, yes=True)
    box.service.decide(box.run().escalations[-1].token, ANA, Decision.RETRY)
    box.go()
    box.service.decide(box.run().escalations[-1].token, ANA, Decision.ABANDON)

    box.hypervisor.image = b"the image"
    box.fire(b"ToyBroken resolved")
    box.fire()
    box.go()
    box.service.approve(box.run().approvals[-1].token, ANA, yes=True)
    box.hypervisor.image = b"another image"
    box.go()
    assert box.run().approvals[-1].state is ApprovalState.VOIDED


def test_warnings_reminders_extensions_and_expiry(box: TwoRoles) -> None:
    token = box.until_approval()
    box.clock.pass_time(minutes=16)
    box.round()  # warned
    box.service.extend(token, ANA)
    box.clock.pass_time(minutes=40)
    box.round()
    assert box.run().approvals[-1].state is ApprovalState.EXPIRED

    box.clock.pass_time(minutes=16)
    box.round()  # reminded
    box.service.extend(box.run().escalations[-1].token, ANA)
    box.clock.pass_time(hours=25)
    box.round()
    assert len(box.run().escalations) == 2, "it was put anew"
    box.clock.pass_time(hours=1)
    box.round()


def test_a_worker_that_died_is_reaped_by_another(box: TwoRoles) -> None:
    box.fire()
    die_in(box, "diagnose")
    with box.of_worker.transaction() as session:
        claims.beat(session, box.worker.claim.id, -60)
    box.start()
    assert box.worker.reaper.recover()
    box.go()

    assert [attempt.state for attempt in box.run().attempts[:2]] == [AttemptState.LOST, AttemptState.FINISHED]
    box.worker.claim.leave()


def test_a_worker_that_died_while_measuring(box: TwoRoles) -> None:
    def die_measuring(_check_id: str) -> None:
        raise Killed

    box.gates.before_each = die_measuring
    box.fire()
    with pytest.raises(Killed):
        box.go()
    box.restart()
    assert box.run().state is RunState.QUEUED


def test_a_worker_of_another_host_died_and_its_vm_may_live(box: TwoRoles) -> None:
    box.fire()
    die_in(box, "staging")
    box.worker.claim.host = "elsewhere"
    with box.of_worker.transaction() as session:
        claims.end_all_others(session, "")
    box.worker.claim.join(box.clock.now())
    box.worker.reaper.reap()
    assert box.run().state is RunState.HALTED
    box.service.abandon(1, ANA, "enough")
    box.clock.pass_time(hours=1)
    box.round()

    with box.database.reading() as session:
        assert runs.get(session, box.run().id).not_before is None


def test_a_defect_of_ours_halts_the_run(box: TwoRoles) -> None:
    def broken() -> None:
        raise RuntimeError("a defect")

    box.fire()
    box.secrets.when_asked = broken
    box.driver.woken(box.run().id)
    assert box.run().state is RunState.HALTED


def test_the_kill_switch(box: TwoRoles) -> None:
    box.fire()
    box.service.throw_kill_switch(ANA, on=True, reason="something is off")
    box.go()
    assert "kill switch" in box.run().waits_for
    box.round()

    box.service.throw_kill_switch(ANA, on=False)
    box.go()
    assert box.run().state is RunState.AWAITING_APPROVAL


def test_the_journal_of_secrets(box: TwoRoles) -> None:
    box.fire()
    journal, run_id = Journal(box.of_worker, box.clock), box.run().id
    journal.minting(run_id=run_id, attempt_id="a", policy="p", paths=["kv/x"])
    journal.minted(run_id=run_id, attempt_id="a", kind="step", accessor="one")
    journal.read(run_id=run_id, attempt_id="a", name="key", path="kv/x", request_id="r")
    journal.revoke_failed(accessor="one", reason="Vault is away")
    box.worker.driver.bury()
    journal.revoked(accessor="one")

    with box.of_worker.reading() as session:
        assert tokens.undead_of(session, run_id) == ()


def test_slacks_side(box: TwoRoles) -> None:
    box.fire()
    first, *others = box.service.outbox_due()
    at = MessageRef(channel="C1", ts="1.2")
    box.service.outbox_sent(first, {"channel:1": MessageRef(channel="C0", ts="1.1")})
    box.service.outbox_sent(first, {"channel:1": at})
    for item in others:
        box.service.outbox_later(item, "slow down", 1, ambiguous=True)
    box.clock.pass_time(minutes=1)
    box.service.outbox_due()
    box.service.outbox_recover()
    box.service.outbox_dead(first, "no such channel")
    box.service.keep_ref("card:1", at)

    assert box.service.incident_at("C1") == 1
    assert box.service.first_time("click")
    assert not box.service.first_time("click")


def test_what_people_look_at_and_what_they_note(box: TwoRoles) -> None:
    box.fire(b"no sense at all")
    box.fire()
    box.go()

    assert box.service.note(1, ANA, steps={"diagnose": "drifted"}, what="w", change="c", rule="r").patch
    assert "inbox" in box.service.healthy()
    assert box.service.metrics()["workers"] == {"default": 1}
    assert box.service.incidents()


def test_wake_ups_come_by_the_real_queue(granted: Roles, box: TwoRoles) -> None:
    came, driven = threading.Event(), []

    def drive(run_id: str) -> None:
        driven.append(run_id)
        came.set()

    fleet = Fleet(granted.of(grants.WORKER), "default", 1, "w", drive)
    fleet.start()
    try:
        box.fire()
        assert came.wait(WITHIN_S)
    finally:
        fleet.stop(WITHIN_S)

    assert driven == [box.run().id]
    owner = sa.create_engine(granted.of(OWNER))
    with owner.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'wake'")) == 0
    owner.dispose()


@pytest.mark.parametrize("role", [grants.BOT, grants.WORKER])
def test_each_may_ask_for_the_revision_and_migrates_nothing(granted: Roles, role: str) -> None:
    database = Database(granted.of(role))
    migrate.bring_up_to_date(database)
    with pytest.raises(BadInput, match="refuses this role"):
        migrate.upgrade(database)
    database.close()


def test_a_start_before_the_grants_says_what_to_do(roles: Roles) -> None:
    owner, bot = Database(roles.of(OWNER)), Database(roles.of(grants.BOT))
    migrate.upgrade(owner)
    with pytest.raises(BadInput, match="refuses this role") as refused:
        migrate.bring_up_to_date(bot)
    owner.close()
    bot.close()

    assert "signalbox database grants" in refused.value.remedy


def test_an_agent_asks_about_a_call_is_allowed_and_goes_on(box: TwoRoles) -> None:
    box.service.approve(ask_about_a_call(box), ANA, yes=True)
    box.go()

    assert [attempt.state for attempt in box.run().attempts[:2]] == [AttemptState.PAUSED, AttemptState.FINISHED]
    assert not box.run().approvals[-1].of_a_call


def test_an_agent_s_call_is_refused_and_its_run_abandoned(box: TwoRoles) -> None:
    box.service.approve(ask_about_a_call(box), ANA, yes=False)
    assert box.run().state is RunState.HALTED
    box.service.abandon(1, ANA, "enough")

    assert box.run().state is RunState.ABANDONED
