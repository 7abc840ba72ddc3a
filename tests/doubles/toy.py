"""The toy that tests of the engine are about: a runbook of nine micro-steps, its alert, its places."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from engine.domain.alert import Alert, AlertStatus, Severity
from engine.domain.directory import Address, Directory, Site
from engine.domain.gate import Check, CommandCheck, DigestCheck, HttpCheck
from engine.domain.runbook import (
    Access,
    ApprovalRule,
    ArtefactRule,
    CloseStep,
    Endpoint,
    Escalate,
    GateStep,
    Grant,
    InputRule,
    Login,
    OutputRule,
    ReceiveStep,
    Rollback,
    Runbook,
    Script,
    ScriptStep,
    SecretRef,
    Target,
)

T0 = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)


def _grant(env: str, user: str) -> Grant:
    secret = SecretRef(name="key", engine="kv", path=f"kv/data/toy/{env}/{user}", fields=("private_key",))
    return Grant(network=(Endpoint(host="{{ target.host }}", port=22),), secrets=(secret,))


def _target(env: str, *, protected: bool) -> Target:
    login, grant = Login(user="verifier", key="key"), _grant(env, "verifier")
    return Target(name=env, host=f"{env}.toy", port=22, protected=protected, verifier=login, verifier_grant=grant)


def _change(env: str, **extra: object) -> ScriptStep:
    step = ScriptStep(
        id=env,
        script=Script(file="apply.sh", args=("{{ inputs.mount }}", "{{ target.host }}")),
        target=env,
        access=Access.WRITE,
        grant=_grant(env, "operator"),
        login=Login(user="operator", key="key"),
        image="step",
        memory_mb=256,
        timeout_s=60,
        idempotent=False,
        uses="fix",
        rollback=Rollback(script=Script(file="undo.sh"), checks=_checks("undone", env)),
    )
    return replace(step, **extra)  # type: ignore[arg-type]  # the fields of ScriptStep


def _checks(name: str, env: str) -> tuple[Check, ...]:
    return (
        CommandCheck(id=f"{name}-inside", target=env, run=("df",), expect="true"),
        HttpCheck(id=f"{name}-outside", target=env, path="/healthz", expect="true"),
    )


def toy_runbook() -> Runbook:
    """The nine micro-steps, as small as they go."""
    diagnose = ScriptStep(
        id="diagnose",
        script=Script(file="diagnose.sh"),
        target="production",
        access=Access.READ,
        grant=_grant("production", "reader"),
        login=Login(user="reader", key="key"),
        image="step",
        memory_mb=256,
        timeout_s=60,
        idempotent=True,
        output=OutputRule(required=("cause",)),
    )
    fix = replace(
        diagnose,
        id="fix",
        script=Script(file="fix.sh"),
        target=None,
        access=Access.NONE,
        grant=Grant(),
        login=None,
        output=None,
        produces=ArtefactRule(name="fix"),
    )
    return Runbook(
        name="toy",
        title="Toy",
        owner="team-toys",
        alertnames=("ToyBroken",),
        severities=(),
        deadline_s=3600,
        inputs=(InputRule(name="mount", source="alert.labels.mount", enum=("/srv",)),),
        targets={"staging": _target("staging", protected=False), "production": _target("production", protected=True)},
        escalate=Escalate(to="@oncall", after_s=900),
        steps=(
            ReceiveStep(id="receive"),
            diagnose,
            GateStep(id="confirmed", of="diagnose", checks=_checks("confirmed", "production"), fresh_for_s=1800),
            fix,
            _change("staging", rehearse=True),
            GateStep(
                id="tests-pass",
                of="staging",
                checks=(
                    *_checks("tests", "staging"),
                    DigestCheck(id="same", of="production", equals="staging"),
                ),
                fresh_for_s=1800,
            ),
            _change("production", approval=ApprovalRule(expires_s=1200)),
            GateStep(id="healthy", of="production", checks=_checks("healthy", "production"), fresh_for_s=1800),
            CloseStep(id="close"),
        ),
    )


def alert(*, name: str = "ToyBroken", status: AlertStatus = AlertStatus.FIRING, mount: str = "/srv") -> Alert:
    """An alert of the toy."""
    return Alert(
        source="fake",
        fingerprint=f"fp-{name}",
        name=name,
        status=status,
        severity=Severity.CRITICAL,
        title=f"{name} on toy",
        labels={"mount": mount},
        annotations={},
        starts_at=T0 - timedelta(minutes=1),
        ends_at=T0 if status is AlertStatus.RESOLVED else None,
        group_key=f"group-{name}",
    )


def directory() -> Directory:
    """Where the toy's targets are."""
    sites = {
        f"{env}.toy": Site(
            name=f"{env}.toy",
            ports={22: Address(host="127.0.0.1", port=port)},
            ssh_host_key="ssh-ed25519 AAAA",
            http_url=f"http://127.0.0.1:{port + 1}",
        )
        for env, port in (("staging", 2201), ("production", 2301))
    }
    return Directory(sites=sites)
