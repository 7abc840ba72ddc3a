"""The administrator's work, the set-up of an external server, and the check-up, on a real OpenBao."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.domain.errors import BadInput, Refused
from engine.domain.runbook import Access, Escalate, Grant, Login, Runbook, Script, ScriptStep, SecretRef, Target
from engine.secrets.admin import Administrator
from engine.secrets.broker import Broker
from engine.secrets.checkup import examine
from engine.secrets.connection import connect_to
from engine.secrets.embedded import EmbeddedBao, find_binary
from engine.secrets.setup import script
from engine.secrets.vault import Vault
from tests.integration.secrets.conftest import REF, World

VERIFIER = SecretRef(name="verifier", engine="kv", path="kv/data/checkout/verifier", fields=("value",))


def _runbook(name: str, *refs: SecretRef) -> Runbook:
    step = ScriptStep(
        id="fix",
        script=Script(file="fix.sh"),
        target="staging",
        access=Access.WRITE,
        grant=Grant(secrets=refs),
        login=Login(user="root", key="key"),
        image="base",
        memory_mb=256,
        timeout_s=60,
        idempotent=True,
    )
    target = Target(
        name="staging",
        host="staging",
        port=22,
        protected=False,
        verifier=Login(user="verify", key="verifier"),
        verifier_grant=Grant(secrets=(VERIFIER,)),
    )
    return Runbook(
        name=name,
        title=name,
        owner="me",
        alertnames=(),
        severities=(),
        deadline_s=60,
        inputs=(),
        targets={"staging": target},
        escalate=Escalate(to="@me", after_s=60),
        steps=(step, dataclasses.replace(step, id="again")),
    )


def test_a_plan_is_shown_applied_and_then_in_force(world: World) -> None:
    """One policy for the steps, one for the verifier; the second plan has nothing to do; the broker is served."""
    runbook = _runbook("plan-me", REF)
    with world.admin() as admin:
        plan = admin.plan([runbook])
        assert len(plan.missing) == 2
        assert any(REF.path in line for line in plan.lines)
        admin.apply(plan)
        again = admin.plan([runbook])
    assert not again.missing
    assert not again.stale
    assert len(again.in_force) == 2
    world.broker.open(runbook="plan-me", run_id="r", leg="fix", attempt_id="a", refs=(REF,), timeout_s=9).close()


def test_an_edited_runbook_makes_its_old_policy_stale_and_leaves_strangers_alone(world: World) -> None:
    """What nobody reviewed any more goes; policies of runbooks that are not here stay."""
    edited = _runbook("edit-me", dataclasses.replace(REF, fields=("value", "more")))
    with world.admin() as admin:
        admin.apply(admin.plan([_runbook("edit-me", REF), _runbook("edit-me-not", REF)]))
        plan = admin.plan([edited])
        assert len(plan.missing) == len(plan.stale) == 1
        assert any(name.startswith("op-s-edit-me-not-") for name in plan.strangers)
        admin.apply(plan)
        assert admin.plan([edited]).stale == ()
        assert admin.plan([_runbook("edit-me-not", REF)]).missing == ()


def test_a_policy_changed_by_hand_is_missing_again(world: World) -> None:
    """The plan compares texts, not names."""
    runbook = _runbook("hands-off", REF)
    with world.admin() as admin:
        admin.apply(admin.plan([runbook]))
        (first, _) = admin.plan([runbook]).in_force
        world.write(f"sys/policies/acl/{first.name}", {"policy": 'path "*" { capabilities = ["read"] }'})
        assert [policy.name for policy in admin.plan([runbook]).missing] == [first.name]


@pytest.mark.parametrize("fields", [{}, {"pin": "1234"}, {"value": "      ab"}], ids=str)
def test_a_secret_that_no_step_could_use_is_not_written(world: World, fields: dict[str, str]) -> None:
    """Too short to be masked, or nothing at all."""
    with world.admin() as admin, pytest.raises(BadInput):
        admin.put(REF.path, fields)


def test_a_secret_is_written_to_a_kv_path_only(world: World) -> None:
    """Not to a policy, not to a role."""
    with world.admin() as admin, pytest.raises(Refused, match="no path"):
        admin.put("sys/policies/acl/op-s-x", {"policy": 'path "*" {}'})


def test_a_wrong_password_or_token_is_refused(world: World) -> None:
    """With a clear word."""
    with pytest.raises(Refused), Administrator(world.bao.connection(), world.clock, password="wrong-password"):
        pass
    with Administrator(world.bao.connection(), world.clock, token="s.wrong") as admin, pytest.raises(Refused):
        admin.plan([])
    with pytest.raises(BadInput, match="token or a password"):
        Administrator(world.bao.connection(), world.clock)


def test_check_finds_all_well_and_leaves_nothing(world: World) -> None:
    """Address, clock, login, roles; afterwards nothing of it is alive."""
    findings = world.broker.check()
    assert [finding.name for finding in findings if not finding.ok] == []
    assert len(findings) == 5
    with world.admin() as admin:
        assert admin.live_accessors() == ()


def test_check_says_what_is_wrong(world: World) -> None:
    """A clock that is off, a wrong secret id, a server that is not there: each with its remedy."""
    world.clock.ahead_s = 60
    assert [(f.name, f.ok) for f in world.broker.check()][-1] == ("vault's clock", False)
    world.clock.ahead_s = 0
    wrong = dataclasses.replace(world.bao.connection(), secret_id="not-the-secret-id")
    last = examine(wrong, world.clock)[-1]
    assert (last.name, last.ok) == ("vault login", False)
    assert "SIGNALBOX_VAULT_SECRET_ID" in last.remedy
    nobody = dataclasses.replace(wrong, socket=Path("/nowhere/bao.sock"))
    (last,) = examine(nobody, world.clock)
    assert not last.ok
    assert last.remedy


def test_the_script_for_an_external_server_sets_it_up(
    own_bao: EmbeddedBao, make_world: Callable[[EmbeddedBao], World], tmp_path: Path
) -> None:
    """Run by a real `bao` against a server whose roles and policies were taken away; twice; then all is well."""
    world = make_world(own_bao)
    connection = own_bao.connection()
    with Vault(connection, world.clock) as vault:
        token = vault.login_password("admin", own_bao.admin_password()).token
        for path in ("policies/acl/op-bot", "policies/acl/op-run", "auth/approle"):
            vault._ask("taking away", "delete", f"sys/{path}", token=token)
        for role in ("op-run", "op-step"):
            vault._ask("taking away", "delete", f"auth/token/roles/{role}", token=token)
    assert not examine(connection, world.clock)[-1].ok
    program = tmp_path / "setup.sh"
    program.write_text(script("bao"))
    path = f"{find_binary().parent}:/usr/bin:/bin"
    env = {"PATH": path, "HOME": str(tmp_path), "BAO_ADDR": f"unix://{own_bao.socket}", "BAO_TOKEN": token}
    for _ in range(2):
        done = subprocess.run(["sh", program], env=env, capture_output=True, text=True, timeout=50, check=False)
        assert done.returncode == 0, done.stderr
    there = connect_to(f"unix://{own_bao.socket}", secret_id=done.stdout.strip())
    assert [finding for finding in examine(there, world.clock) if not finding.ok] == []
    broker = Broker(there, world.journal, world.clock)
    broker.open(runbook="disk-full", run_id="r", leg="fix", attempt_id="a", refs=(REF,), timeout_s=9).close()
