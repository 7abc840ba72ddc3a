"""From the file's values to the engine's frozen ones. Called by the shelf after the shape was found right."""

from __future__ import annotations

from engine.domain.runbook import (
    PLAY_OUTPUT,
    Access,
    ApprovalRule,
    ArtefactRule,
    CloseStep,
    DatabaseLogin,
    Endpoint,
    Escalate,
    GateStep,
    Grant,
    InputRule,
    Limits,
    Login,
    OutputRule,
    ReceiveStep,
    Rollback,
    Runbook,
    Script,
    ScriptStep,
    SecretRef,
    Step,
    Target,
    Tool,
)
from engine.runbooks import agent_format, target_format, terraform
from engine.runbooks import format as edge
from engine.runbooks.check_convert import counted, in_shadow


def runbook(file: edge.RunbookEdge) -> Runbook:
    """The whole runbook."""
    return Runbook(
        name=file.name,
        title=file.title,
        owner=file.owner,
        alertnames=tuple(file.trigger.alertname),
        severities=tuple(file.trigger.severity),
        deadline_s=file.deadline,
        inputs=tuple(_input(name, rule) for name, rule in file.inputs.items()),
        targets={name: _target(name, target) for name, target in file.targets.items()},
        escalate=Escalate(to=file.escalate.to, after_s=file.escalate.after),
        steps=tuple(_step(step, file) for step in file.steps),
        pool=file.pool,
    )


def _input(name: str, rule: edge.InputEdge) -> InputRule:
    return InputRule(name=name, source=rule.from_, pattern=rule.pattern, enum=tuple(rule.enum or ()))


def _target(name: str, target: target_format.TargetEdge) -> Target:
    secret = _secret(target.verifier.secret)
    return Target(
        name=name,
        host=target.host,
        port=target.port,
        protected=target.protected,
        verifier=Login(user=target.verifier.user, key=secret.name),
        verifier_grant=Grant(network=(Endpoint(host=target.host, port=target.port),), secrets=(secret,)),
        database=_database(target.verifier.database),
    )


def _database(login: target_format.DatabaseEdge | None) -> DatabaseLogin | None:
    if login is None:
        return None
    grant = Grant(secrets=(_secret(login.secret),))
    return DatabaseLogin(port=login.port, name=login.name, user=login.user, grant=grant)


def _secret(secret: target_format.SecretEdge) -> SecretRef:
    return SecretRef(
        name=secret.name,
        engine=secret.engine,
        path=secret.path,
        fields=tuple(secret.fields),
        deliver=secret.deliver,
        max_reads=secret.max_reads,
    )


def _step(step: edge.AnyStep, file: edge.RunbookEdge) -> Step:
    match step:
        case edge.ReceiveEdge():
            return ReceiveStep(id=step.id)
        case edge.CloseEdge():
            return CloseStep(id=step.id)
        case edge.GateEdge():
            return GateStep(
                id=step.id,
                of=step.of,
                checks=counted(step.checks),
                fresh_for_s=step.fresh_for,
                shadow=in_shadow(step.checks),
            )
        case edge.ScriptEdge():
            return _work(
                step,
                Script(file=step.script, args=tuple(step.args)),
                produces=_artefact(step.produces),
                output=_output(step.output),
            )
        case edge.AnsibleEdge():
            return _work(step, Script(file=step.playbook), output=OutputRule(required=PLAY_OUTPUT), tool=Tool.ANSIBLE)
        case edge.AgentEdge():
            return _agent(step)
        case edge.TerraformPlanEdge():
            return terraform.plan(step, _grant(step), _limits(step.limits) if step.limits else Limits())
        case edge.TerraformApplyEdge():
            limits = _limits(step.limits) if step.limits else Limits()
            return terraform.apply(step, file, _grant(step), limits, _undo(step, file))


def _undo(step: edge.TerraformApplyEdge, file: edge.RunbookEdge) -> Rollback | None:
    if not isinstance(step.rollback, edge.TerraformUndoEdge):
        return None
    return Rollback(
        script=terraform.undoing(step.rollback, step, file),
        checks=counted(step.rollback.checks),
        shadow=in_shadow(step.rollback.checks),
    )


def _grant(step: edge.VmEdge | edge.TerraformEdge) -> Grant:
    return Grant(
        network=tuple(Endpoint(host=one.host, port=one.port) for one in step.network),
        secrets=tuple(_secret(one) for one in step.secrets),
    )


def _work(
    step: edge.ScriptEdge | edge.AnsibleEdge,
    script: Script,
    *,
    produces: ArtefactRule | None = None,
    output: OutputRule | None,
    tool: Tool = Tool.SCRIPT,
) -> ScriptStep:
    return ScriptStep(
        id=step.id,
        script=script,
        target=step.target,
        access=Access(step.access),
        grant=_grant(step),
        login=_login(step.login),
        image=step.image,
        memory_mb=step.memory_mb,
        limits=_limits(step.limits) if step.limits else Limits(),
        timeout_s=step.timeout,
        idempotent=step.idempotent,
        uses=step.uses,
        produces=produces,
        output=output,
        approval=ApprovalRule(expires_s=step.approve.expires) if step.approve else None,
        rollback=_rollback(step.rollback),
        rehearse=step.rehearse,
        tool=tool,
    )


def _agent(step: edge.AgentEdge) -> ScriptStep:
    """An agent's step: its prompt is its script. It may always be run again, for it changes nothing."""
    return ScriptStep(
        id=step.id,
        script=Script(file=step.prompt),
        target=step.target,
        access=Access(step.access),
        grant=_grant(step),
        login=_login(step.login),
        image=step.image,
        memory_mb=step.memory_mb,
        limits=_limits(step.limits) if step.limits else Limits(),
        timeout_s=step.timeout,
        idempotent=True,
        uses=step.uses,
        produces=_artefact(step.produces),
        output=_output(step.output),
        tool=Tool.AGENT,
        agent=agent_format.rule(step.model, step.context, step.tools, step.budget, step.cli),
    )


def _login(login: edge.LoginEdge | None) -> Login | None:
    return Login(user=login.user, key=login.key) if login else None


def _artefact(produces: edge.ProducesEdge | None) -> ArtefactRule | None:
    return ArtefactRule(name=produces.name) if produces else None


def _limits(limits: edge.LimitsEdge) -> Limits:
    return Limits(
        vcpus=limits.vcpus,
        cpu_percent=limits.cpu_percent or 0,
        disk_mb=limits.disk_mb or 0,
        processes=limits.processes,
        output_kb=limits.output_kb,
        egress_mb=limits.egress_mb,
    )


def _output(output: edge.OutputEdge | None) -> OutputRule | None:
    if output is None:
        return None
    enums = {name: tuple(values) for name, values in output.enums.items()}
    return OutputRule(required=tuple(output.required), enums=enums)


def _rollback(rollback: edge.UndoEdge | edge.UndoPlayEdge | edge.NoUndoEdge | None) -> Rollback | None:
    match rollback:
        case edge.UndoEdge():
            script = Script(file=rollback.script, args=tuple(rollback.args))
        case edge.UndoPlayEdge():
            script = Script(file=rollback.playbook)
        case _:
            return None
    return Rollback(script=script, checks=counted(rollback.checks), shadow=in_shadow(rollback.checks))
