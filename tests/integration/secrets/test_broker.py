"""The broker against a real OpenBao: what is minted is exactly what was declared, and it is dead when it says so."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable

import pytest

from engine.domain.errors import Refused, Unavailable
from engine.secrets.embedded import EmbeddedBao
from engine.secrets.policy import compile_policy
from engine.secrets.setup import BOT_POLICY
from engine.secrets.vault import Vault
from tests.integration.secrets.conftest import PAIR, REF, RUNBOOK, VALUE, World


def test_a_step_gets_its_values_and_every_act_is_on_record(world: World) -> None:
    """Minting before the mint, each token after its mint, each read with Vault's request id, death at the end."""
    grant = world.open(REF, PAIR)
    key, db = grant.values
    assert key.value == VALUE
    assert json.loads(db.value) == {"user": "alice-of-db", "password": "p4$$-w\"rd'x"}
    grant.close()
    assert world.journal.kinds == ["minting", "minted run", "minted step", "read", "read", "revoked"]
    assert world.journal.of("revoked") == world.journal.of("minted step")
    assert grant.values == ()


def test_the_step_token_reads_what_is_declared_and_is_dead_after_close(world: World) -> None:
    """Proved by using the very token."""
    open_still = world.open(REF)
    assert world.tokens[-1].policies == {compile_policy(RUNBOOK, (REF,)).name}
    assert world.works(world.tokens[-1])
    open_still.close()
    closed = world.open(REF)  # one use is left, so only its revocation can be why it fails
    closed.close()
    assert not world.works(world.tokens[-1])


def test_the_step_token_reaches_nothing_else(world: World) -> None:
    """Not another secret, not its own metadata."""
    with_both = world.open(REF)
    step = world.tokens[-1]
    assert not world.works(step, PAIR.path)
    with_both.close()
    again = world.open(REF)
    assert not world.works(world.tokens[-1], "kv/metadata/checkout/staging/key")
    again.close()


def test_the_step_token_lives_no_longer_than_the_step_and_serves_one_read_a_secret(world: World) -> None:
    """Timeout and 30 s; at most 15 minutes; one use to spare."""
    world.open(REF, PAIR).close()
    assert world.tokens[-1].lasts_s == 90
    assert world.tokens[-1].uses == 3
    world.broker.open(runbook=RUNBOOK, run_id="r", leg="l", attempt_id="a", refs=(REF,), timeout_s=9999).close()
    assert world.tokens[-1].lasts_s == 900


def test_close_may_be_called_again(world: World) -> None:
    """And records nothing twice."""
    grant = world.open(REF)
    grant.close()
    grant.close()
    assert world.journal.kinds.count("revoked") == 1


def test_a_step_without_secrets_needs_no_vault(own_bao: EmbeddedBao, world: World) -> None:
    """Nothing is asked, nothing recorded; the redactor works."""
    broker = world.new_broker()
    broker.connection = dataclasses.replace(broker.connection, socket=own_bao.socket)  # nobody listens there
    grant = broker.open(runbook=RUNBOOK, run_id="r", leg="l", attempt_id="a", refs=(), timeout_s=1)
    assert grant.values == ()
    assert "hunter2pw" not in grant.redactor("postgres://bob:hunter2pw@db")
    grant.close()
    assert world.journal.acts == []


def test_the_redactor_knows_what_was_handed_out_and_every_token(world: World) -> None:
    """Values of this and of earlier grants, in any encoding, and Vault's own tokens by their looks."""
    grant = world.open(REF, PAIR)
    shown = grant.redactor(f"{VALUE} {VALUE[::-1]} {VALUE.encode().hex()} p4$$-w\"rd'x")
    assert shown == "‹secret:key› ‹secret:key› ‹secret:key› ‹secret:db.password›"
    tokens = " ".join(token.token for token in world.tokens)
    assert world.broker.redactor()(tokens) == "‹secret:vault-token› ‹secret:vault-token›"
    assert world.broker.redactor()(world.bao.connection().secret_id) == "‹secret:vault-secret-id›"
    grant.close()


def test_one_run_token_serves_all_attempts_of_a_run(world: World) -> None:
    """And another run has its own."""
    for attempt in ("a1", "a2"):
        world.open(REF, attempt=attempt).close()
    world.open(REF, run="run-2").close()
    assert len(world.journal.of("minted run")) == 2
    assert len(world.journal.of("minted step")) == 3


def test_a_run_token_too_old_for_another_step_is_replaced(world: World) -> None:
    """A run that waited hours for a person goes on; both tokens die with the run."""
    world.open(REF).close()
    world.clock.ahead_s = 4 * 3600 - 60
    world.open(REF).close()
    assert len(world.journal.of("minted run")) == 2
    world.broker.revoke_run("run-1")
    assert set(world.journal.of("minted run")) <= set(world.journal.of("revoked"))


def test_revoking_a_run_kills_everything_it_has(world: World) -> None:
    """The kill switch: run token and the step token of an attempt that is still open."""
    grant = world.open(REF)
    run, step = world.tokens
    world.broker.revoke_run("run-1")
    assert not world.works(step)
    assert grant.values == ()
    assert world.journal.of("revoked") == [run.accessor, step.accessor]
    with world.admin() as admin:
        assert not {run.accessor, step.accessor} & {token.accessor for token in admin.live_accessors()}


def test_a_run_that_was_revoked_may_go_on_when_a_person_retries(world: World) -> None:
    """Also when it was buried by its accessors, as the driver does for runs at rest."""
    world.open(REF).close()
    world.broker.revoke_run("run-1")
    world.open(REF).close()
    world.broker.recover([world.tokens[-2].accessor])
    world.open(REF).close()
    assert len(world.journal.of("minted run")) == 3


def test_a_run_token_revoked_in_vault_by_somebody_else_stops_the_run(world: World) -> None:
    """Nothing is minted anew behind their back; a person's Retry then works."""
    world.open(REF).close()
    world.write("auth/token/revoke-accessor", {"accessor": world.tokens[0].accessor})
    with pytest.raises(Refused, match="was revoked in Vault"):
        world.open(REF)
    world.open(REF).close()


def test_after_a_crash_the_next_process_kills_what_the_last_one_left(world: World) -> None:
    """Even a step token that was minted and never recorded: it dies with its run token."""
    world.open(REF)
    run, step = world.tokens
    successor = world.new_broker()
    successor.recover([run.accessor])
    assert not world.works(step)
    successor.recover([run.accessor, step.accessor, "no-such-accessor"])
    successor.shut_down()


@pytest.mark.parametrize("moment", ["minting", "minted run", "minted step", "read"])
def test_nothing_lives_that_the_journal_could_not_record(world: World, moment: str) -> None:
    """The database fails at any moment: what was minted just before is dead."""
    world.journal.fails_at = moment
    with pytest.raises(OSError, match="database"):
        world.open(REF)
    alive = [token for token in world.tokens if world.works(token)]
    assert alive == []
    if moment == "minted run":
        with world.admin() as admin:
            assert world.tokens[0].accessor not in {token.accessor for token in admin.live_accessors()}


def test_a_stanza_that_nobody_applied_fails_closed(world: World) -> None:
    """An edited declaration has no policy; the refusal says what to do, and the useless token is dead."""
    edited = dataclasses.replace(REF, fields=("value", "more"))
    with pytest.raises(Refused, match="was not applied") as refusal:
        world.open(edited)
    assert "secrets plan, then with --apply" in refusal.value.remedy
    assert world.journal.kinds == ["minting", "minted run", "minted step", "revoked"]


@pytest.mark.parametrize(
    "rules",
    [
        'path "kv/data/*" { capabilities = ["read"] }',
        f'path "{REF.path}" {{ capabilities = ["read", "update"] }}',
        f'path "{REF.path}" {{ capabilities = ["read"] }}\npath "kv/metadata/*" {{ capabilities = ["read"] }}',
        f'path "{REF.path}" {{ capabilities = ["read"] }}\npath "sys/mounts" {{ capabilities = ["read"] }}',
        f'path "{REF.path}" {{ capabilities = ["deny"] }}',
    ],
)
@pytest.mark.parametrize("text_looks_right", [False, True])
def test_a_policy_that_is_not_as_declared_fails_closed(
    world: World, monkeypatch: pytest.MonkeyPatch, rules: str, text_looks_right: bool
) -> None:
    """Wider or narrower under the right name; seen in its text, and, were that wrong, in the token's real reach."""
    policy = compile_policy(RUNBOOK, (REF,))
    world.write(f"sys/policies/acl/{policy.name}", {"policy": rules})
    if text_looks_right:
        monkeypatch.setattr(Vault, "policy", lambda *_: policy.text)
    with pytest.raises(Refused, match=r"not what the runbook compiles to|too wide|declared is"):
        world.open(REF)
    assert "read" not in world.journal.kinds
    assert world.journal.kinds[-1] == "revoked"


def test_a_policy_wider_where_nobody_would_look_fails_closed(world: World) -> None:
    """No canary stands there; the text gives it away."""
    policy = compile_policy(RUNBOOK, (REF,))
    wider = policy.text + 'path "kv/data/payments/production" { capabilities = ["read"] }\n'
    world.write(f"sys/policies/acl/{policy.name}", {"policy": wider})
    with pytest.raises(Refused, match="not what the runbook compiles to"):
        world.open(REF)
    assert "read" not in world.journal.kinds


def test_a_role_that_makes_orphans_is_refused(own_bao: EmbeddedBao, make_world: Callable[[EmbeddedBao], World]) -> None:
    """Such a step token would outlive its run; `check` finds it too."""
    world = make_world(own_bao)
    body = {"orphan": True, "renewable": False, "token_no_default_policy": True, "allowed_policies_glob": ["op-s-*"]}
    world.write("auth/token/roles/op-step", body)
    with pytest.raises(Refused, match="unexpected orphan"):
        world.open(REF)
    assert not world.works(world.tokens[-1])
    assert [finding.name for finding in world.broker.check() if not finding.ok] == ["vault roles"]


def test_a_refused_look_up_is_not_taken_for_death(
    own_bao: EmbeddedBao, make_world: Callable[[EmbeddedBao], World]
) -> None:
    """The bot loses the right to look: nothing is proved, it says so, and a later close proves it."""
    world = make_world(own_bao)
    grant = world.open(REF)
    world.write("sys/policies/acl/op-bot", {"policy": 'path "auth/token/create/op-run" { capabilities=["update"] }'})
    with pytest.raises(Refused, match="cannot prove"):
        grant.close()
    assert world.journal.kinds[-1] == "revoke_failed"
    assert world.works(world.tokens[-1])
    world.write("sys/policies/acl/op-bot", {"policy": BOT_POLICY})
    grant.close()
    assert world.journal.kinds[-1] == "revoked"


def test_the_bot_logs_in_again_when_its_login_is_gone(world: World) -> None:
    """No restart is needed after somebody revoked it, nor when it grows old."""
    world.open(REF).close()
    with world.admin() as admin:
        logins = [token for token in admin.live_accessors() if token.policies == ("op-bot",)]
    for login in logins:
        world.write("auth/token/revoke-accessor", {"accessor": login.accessor})
    world.open(REF).close()
    world.clock.ahead_s = 1000
    world.open(REF).close()
    with world.admin() as admin:
        assert len([token for token in admin.live_accessors() if token.policies == ("op-bot",)]) == 1


def test_nothing_of_ours_is_alive_after_shut_down(world: World) -> None:
    """Run tokens, step tokens and the bot's own login; before that, an administrator sees each with its run."""
    world.open(REF, run="run-7")
    with world.admin() as admin:
        alive = admin.live_accessors()
    assert sorted(token.policies[0][:6] for token in alive) == ["op-bot", "op-run", "op-s-d"]
    assert {token.meta.get("op_run") for token in alive} == {"run-7", None}
    world.broker.shut_down()
    with world.admin() as admin:
        assert admin.live_accessors() == ()


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        (dataclasses.replace(REF, path="kv/data/nobody/wrote/this"), "found nothing"),
        (dataclasses.replace(REF, fields=("absent",)), "no text field 'absent'"),
        (dataclasses.replace(REF, path="kv/data/short"), "cannot be masked"),
        (dataclasses.replace(REF, path="kv/data/number"), "no text field"),
    ],
    ids=["missing", "no such field", "too short", "not text"],
)
def test_a_secret_that_cannot_be_handed_out_is_refused(world: World, ref: object, says: str) -> None:
    """With a remedy, and with a dead token."""
    assert isinstance(ref, type(REF))
    world.write("kv/data/short", {"data": {"value": "abc"}})
    world.write("kv/data/number", {"data": {"value": 123456789}})
    world.apply(ref)
    with pytest.raises(Refused, match=says) as refusal:
        world.open(ref)
    assert refusal.value.remedy
    assert world.journal.kinds[-1] == "revoked"


def test_a_deleted_version_is_not_handed_out(world: World) -> None:
    """Vault answers 404 with metadata; that is no secret."""
    ref = dataclasses.replace(REF, path="kv/data/deleted")
    world.write("kv/data/deleted", {"data": {"value": "was-here-once"}})
    world.write("kv/delete/deleted", {"versions": [1]})
    world.apply(ref)
    with pytest.raises(Refused, match="found nothing"):
        world.open(ref)


def test_steps_in_parallel_do_not_disturb_one_another(world: World) -> None:
    """Eight threads, two runs."""
    wrong: list[object] = []

    def work(number: int) -> None:
        try:
            for _ in range(3):
                grant = world.open(REF, run=f"run-{number % 2}", attempt=f"a{number}")
                if grant.values[0].value != VALUE:
                    wrong.append(number)
                grant.close()
        except (Refused, Unavailable) as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert wrong == []
    assert len(world.journal.of("minted run")) == 2
    assert len(world.journal.of("revoked")) == 24


def test_no_error_and_no_repr_carries_a_secret(world: World) -> None:
    """Neither the value, nor a token, nor what Vault said lies in an exception's chain."""
    grant = world.open(REF)
    secrets = [VALUE, world.bao.connection().secret_id, *(token.token for token in world.tokens)]
    shown = repr(grant.values) + repr(world.tokens) + repr(world.bao.connection())
    assert not any(secret in shown for secret in secrets)
    grant.close()
    with pytest.raises(Refused) as refusal:
        world.open(dataclasses.replace(REF, fields=("other",)))
    assert refusal.value.__context__ is None or not hasattr(refusal.value.__context__, "text")
