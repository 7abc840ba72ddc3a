"""Orders: exactly what an attempt would do, and the two digests that bind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from engine.domain import digest, image_names, template
from engine.domain.directory import Directory, Site
from engine.domain.errors import Refused
from engine.domain.journey import Journey, Leg, LegKind
from engine.domain.ports import Reach
from engine.domain.runbook import PER_TARGET, Access, Endpoint, Grant, Script, ScriptStep, Snapshot, Target, Tool
from engine.domain.states import AttemptState
from engine.store import models, runs
from engine.store.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What is true outside the database at this moment, read before the transaction that relies on it.

    `images`: image name -> digest of its files as they are now, or the error text when it cannot be had.
    `shelf_digest`: the digest of the run's runbook as it is on disk now; None when it is gone or broken.
    """

    directory: Directory
    images: Mapping[str, str]
    image_errors: Mapping[str, str]
    shelf_digest: str | None
    runner_version: str
    content: Callable[[ScriptStep, bytes], str]
    preview: Callable[[ScriptStep, bytes], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One attempt, worked out."""

    leg: Leg
    step: ScriptStep
    target: Target | None
    site: Site | None
    reaches: tuple[Reach, ...]
    args: tuple[str, ...]
    uses_digest: str | None
    content_digest: str
    order_digest: str
    lines: Mapping[str, str]


def changes(leg: Leg) -> bool:
    """Whether this leg writes to its target."""
    return leg.kind is LegKind.ATTEMPT and isinstance(leg.step, ScriptStep) and leg.step.access is Access.WRITE


def uses(session: Session, run: models.Run, step: ScriptStep) -> str | None:
    """The digest of the artefact that the step works with: the newest one of that name. Raises Refused without one."""
    if step.uses is None:
        return None
    for attempt in reversed(runs.attempts(session, run.id)):
        if attempt.step == step.uses and attempt.state is AttemptState.FINISHED and attempt.artefact_digest:
            return attempt.artefact_digest
    raise Refused(f"step {step.id} needs the artefact of {step.uses}, and there is none", "retry from that step")


def _same_everywhere(
    session: Session, run: models.Run, step: ScriptStep, world: World, artefact: str | None
) -> str | None:
    """The digest of what of the artefact is the same on every target: of all of it, but for what is made for one."""
    if artefact is None or step.tool not in PER_TARGET:
        return artefact
    return world.content(step, runs.artefact(session, run.id, artefact))


def reaches(grant: Grant, directory: Directory, values: Mapping[str, Mapping[str, str]]) -> tuple[Reach, ...]:
    """Where the guest may dial, and where the host then connects. Raises Refused for what no grant may name."""
    found = []
    for endpoint in grant.network:
        host = template.fill(endpoint.host, values)
        address = directory.address(Endpoint(host=host, port=endpoint.port))
        found.append(
            Reach(
                host=host,
                port=endpoint.port,
                address=address.host,
                address_port=address.port,
                private=directory.site(host).private,
                never=directory.forbidden,
            )
        )
    return tuple(found)


def gates_before(journey: Journey, leg_id: str) -> tuple[str, ...]:
    """The gates on the main line before this leg, in order."""
    gates: list[str] = []
    for leg in journey.line:
        if leg.id == leg_id:
            return tuple(gates)
        if leg.kind is LegKind.GATE:
            gates.append(leg.id)
    return tuple(gates)


def work_out(session: Session, run: models.Run, snapshot: Snapshot, journey: Journey, leg: Leg, world: World) -> Plan:
    """The attempt of this leg as it would be started now. Raises Refused, BadInput (placeholders)."""
    step, script = leg.step, leg.script
    if not isinstance(step, ScriptStep) or script is None:
        raise Refused(f"leg {leg.id} is no attempt")
    if step.image in world.image_errors:
        raise Refused(world.image_errors[step.image], image_names.how_to_get(step.image))
    target = snapshot.runbook.targets[step.target] if step.target else None
    site = world.directory.site(target.host) if target else None
    values: dict[str, Mapping[str, str]] = {"inputs": run.inputs}
    if target is not None:
        values["target"] = {"name": target.name, "host": target.host, "port": str(target.port)}
    allowed = reaches(step.grant, world.directory, values)
    args = tuple(template.fill(arg, values) for arg in script.args)
    neutral = tuple(template.fill(arg, values, keep=frozenset({"target"})) for arg in script.args)
    uses_digest = uses(session, run, step)
    content = digest.content_digest(
        artefact=_same_everywhere(session, run, step, world, uses_digest),
        runner=world.runner_version,
        script=_script_digest(step, script, snapshot),
        args=neutral,
        image=world.images[step.image],
        policy=run.runbook_digest,
    )
    evidence = runs.held_evidence(session, run.id, gates_before(journey, leg.id))
    order = digest.order_digest(
        content=content,
        artefact=uses_digest,
        run=run.id,
        leg=leg.id,
        target=_target_facts(target, site),
        args=args,
        inputs=run.inputs,
        grant={
            "network": [_bound(reach) for reach in allowed],
            "secrets": [asdict(secret) for secret in step.grant.secrets],
            "login": asdict(step.login) if step.login else None,
        },
        rollback=_rollback_digest(step, snapshot),
        runbook=run.runbook_digest,
        evidence=evidence,
    )
    return Plan(
        leg=leg,
        step=step,
        target=target,
        site=site,
        reaches=allowed,
        args=args,
        uses_digest=uses_digest,
        content_digest=content,
        order_digest=order,
        lines=_lines(run, leg, step, target, allowed, args, uses_digest, content, evidence),
    )


def _bound(reach: Reach) -> Mapping[str, object]:
    """What of a reach an approval binds. Our own ends only narrow it: a new site must not void what was asked."""
    return {name: value for name, value in asdict(reach).items() if name != "never"}


def _target_facts(target: Target | None, site: Site | None) -> Mapping[str, object]:
    if target is None or site is None:
        return {}
    return {
        "name": target.name,
        "host": target.host,
        "port": target.port,
        "protected": target.protected,
        "host_key": site.ssh_host_key,
        "addresses": {str(port): f"{address.host}:{address.port}" for port, address in site.ports.items()},
    }


def _rollback_digest(step: ScriptStep, snapshot: Snapshot) -> str | None:
    if step.rollback is None:
        return None
    script = step.rollback.script
    return digest.of_value({"script": _script_digest(step, script, snapshot), "args": list(script.args)})


def _script_digest(step: ScriptStep, script: Script, snapshot: Snapshot) -> str:
    """Of its bytes; of a playbook or configuration: which it is, and every file of its folder."""
    parts = step.parts(script, snapshot.files)
    if step.tool is Tool.SCRIPT:
        return digest.of_bytes(parts[script.file])
    return digest.of_value(
        {"file": script.file, "parts": {path: digest.of_bytes(data) for path, data in parts.items()}}
    )


def _lines(
    run: models.Run,
    leg: Leg,
    step: ScriptStep,
    target: Target | None,
    allowed: tuple[Reach, ...],
    args: tuple[str, ...],
    uses_digest: str | None,
    content: str,
    evidence: tuple[str, ...],
) -> Mapping[str, str]:
    """The order in a person's words, for the approval message."""
    script = leg.script.file if leg.script else ""
    tool = "" if step.tool is Tool.SCRIPT else f"{step.tool} "
    return {
        "Change": f"{tool}{script} {' '.join(args)}".strip()
        + (f", with fix {uses_digest[7:19]}" if uses_digest else ""),
        "Target": f"{target.name} ({target.host})" if target else "none",
        "Artefact": uses_digest or "none",
        "Content": content,
        "May dial": ", ".join(f"{reach.host}:{reach.port}" for reach in allowed) or "nothing",
        "Secrets": ", ".join(secret.path for secret in step.grant.secrets) or "none",
        "Rollback": "declared, rehearsed" if step.rollback else "none",
        "Runbook": f"{run.runbook} {run.runbook_digest[:19]}",
        "Evidence": ", ".join(evidence) or "none",
    }
