"""Runbooks that could reach production unguarded, each in its own way: edits of the skeleton, with a sentence each."""
# ruff: noqa: E501 - one way a line, as far as it goes

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from engine.runbooks import skeleton
from engine.runbooks.rule import Edit, Example

Change = tuple[str, str, str]
""" In this step (or before all of them), this text becomes that one. """

HEALTHY = "type: http, target: production, path: /healthz, expect: status == 200"
NETWORK = 'network: [{host: "{{ target.host }}", port: 22}]'
SAME = "      - {id: same, type: digest, of: production, equals: staging}\n"
VERIFIED = "    verifier: {user: verifier, secret: {name: ssh, engine: kv, path: kv/data/example/x, fields: [key]}}\n"
UNDO = "        - {id: answers, type: http, target: production, path: /healthz, expect: status == 200}"


@dataclass(frozen=True, slots=True)
class Way:
    """One way around the guards: in a sentence, the rule that names it, the runbook."""

    sentence: str
    rule: str
    example: Example


def way(rule: str, sentence: str, *changes: Change, **files: str) -> Way:
    """`files`: name without .sh -> what the script does."""
    folder: Mapping[str, bytes | None] = {f"{name}.sh": f"#!/bin/sh\n{text}\n".encode() for name, text in files.items()}
    return Way(sentence, rule, Example(tuple(Edit(*change) for change in changes), folder))


def block(step: str) -> str:
    """The text of a step."""
    found = re.search(rf"^  - \{{?id: {step}\b.*?(?=^  (?:- |#)|\Z)", skeleton.TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[0]


def without(step: str) -> Change:
    """This step is gone."""
    return step, block(step), ""


# fmt: off
WAYS = (
    # -- on the line of steps
    way("L020", "No gate stands between staging and production.", without("tested")),
    way("L020", "Nobody measured whether anything is wrong before staging is changed.", without("confirmed")),
    way("L001", "Production is changed and nobody looks what became of it.", without("healthy")),
    way(
        "L001",
        "The gate after production judges the diagnosis once more.",
        ("healthy", "of: production", "of: diagnose"),
    ),
    way(
        "L001",
        "A second change follows before anybody judged the first.",
        ("healthy", block("healthy"), block("production").replace("id: production", "id: again") + block("healthy")),
    ),
    # -- not what was tested
    way("L002", "Production is changed without staging.", without("staging"), without("tested")),
    way("L002", "Production gets another script than staging.", ("production", "script: apply.sh", "script: fix.sh")),
    way("L002", "Production gets other arguments than staging.", ("production", "uses: fix", "uses: fix\n    args: [all]")),
    way("L002", "Production boots another image.", ("production", "uses: fix", "uses: fix\n    image: step-ansible")),
    way(
        "L002",
        "Production gets an artefact that is made after the test.",
        ("production", block("production"), block("fix").replace("id: fix", "id: fix2").replace("name: fix", "name: f2")),
        ("healthy", "  - id: healthy", block("production").replace("uses: fix", "uses: fix2") + "  - id: healthy"),
    ),
    way("L002", "Nothing compares what is about to be applied with what was tested.", ("tested", SAME, "")),
    way("L002", "The bytes are compared only after production is changed.", ("tested", SAME, ""), ("healthy", "    checks:\n", "    checks:\n" + SAME)),
    way("L002", "The test ran on a target that is as protected as production.", ("", "host: staging.example\n", "host: staging.example\n    protected: true\n")),
    way("L027", "The change fetches the newest script of a mirror, which no digest covers.", ("production", NETWORK, NETWORK[:-1] + ", {host: mirror.example, port: 443}]"), apply="curl -s https://mirror.example/newest | ssh target -- sh -s"),
    # -- gates that open by themselves
    way("L003", "The step's own word is the only evidence.", ("confirmed", "      - {id: ill, type: http, target: production, path: /healthz, expect: status != 200}\n", "")),
    way("L003", "The gate after production measures staging.", ("healthy", "command, target: production", "command, target: staging"), ("healthy", "http, target: production", "http, target: staging")),
    way("L003", "Only the changed host itself says that it is well.", ("healthy", HEALTHY, "type: command, target: production, run: [curl, -sf, localhost/healthz], expect: code == 0")),
    way("L003", "After the rollback of production nothing is measured there.", ("production", UNDO, UNDO.replace("production", "staging"))),
    way("L031", "The condition holds whatever is measured.", ("tested", "/healthz, expect: status == 200", "/healthz, expect: status > 0 || ms >= 0")),
    way("L031", "The verifier asks `echo`.", ("tested", "run: [systemctl, is-active, \"{{ inputs.unit }}\"]", "run: [echo, active]")),
    way("L021", "The query is of every environment but production.", ("healthy", HEALTHY, "type: promql, target: production, query: 'errors{env!=\"production\"}', expect: 'result[0] < 0.1'")),
    way("L032", "A verdict of last week opens the way.", ("tested", "fresh_for: 30m", "fresh_for: 170h")),
    way("L033", "The gate itself restarts production, before anybody was asked.", ("confirmed", "- {id: ill,", "- {id: kick, type: command, target: production, run: [sudo, systemctl, restart, app], expect: code == 0}\n      - {id: ill,")),
    way("L033", "The gate runs a shell on production.", ("confirmed", "- {id: ill,", "- {id: kick, type: command, target: production, run: [sh, -c, 'systemctl restart app'], expect: code == 0}\n      - {id: ill,")),
    # -- nobody is asked
    way("L019", "Production is changed without a person's yes.", ("production", "    approve: {expires: 30m}\n", "")),
    way("L037", "An excuse stands where a reason should.", ("production", "approve: {expires: 30m}", 'unapproved: "-- -- -- -- --"')),
    way("L029", "Production is not marked as protected, so nothing is asked of it.", ("", "    protected: true\n", "")),
    # -- another name, another way in
    way("L023", "An unprotected target is production's host by another name.", ("", "  production:\n", "  spare:\n    host: staging.example\n" + VERIFIED + "  production:\n")),
    way("L034", "An unprotected target leads to production's address.", ("", "  production:\n", "  spare:\n    host: prod-old-name.example\n    protected: true\n" + VERIFIED + "  production:\n")),
    way("L034", "A step without a target dials production under its old name.", ("fix", "access: none", "access: none\n    network: [{host: prod-old-name.example, port: 22}]"), fix="ssh prod-old-name.example -- restart-it"),
    way("L034", "A step reaches Signalbox's own Vault.", ("fix", "access: none", "access: none\n    network: [{host: vault.example, port: 8200}]"), fix="curl https://vault.example:8200/v1/sys/health"),
    way("L017", "A step without a target dials production.", ("fix", "access: none", "access: none\n    network: [{host: production.example, port: 22}]"), fix="ssh production.example -- restart-it"),
    way("L017", "The step of staging may dial production as well.", ("staging", NETWORK, NETWORK[:-1] + ", {host: production.example, port: 22}]"), apply="ssh target -- sh -s; ssh production.example -- sh -s"),
    way("L006", "The alert chooses which host is dialled.", ("diagnose", NETWORK, NETWORK[:-1] + ', {host: "{{ inputs.unit }}.example", port: 22}]')),
    way("L006", "A step may dial everything.", ("fix", "access: none", "access: none\n    network: [{host: '*', port: 22}]")),
    # -- somebody else's rights
    way("L005", "The diagnosis holds the key that changes production.", ("diagnose", "production/reader", "production/operator")),
    way("L005", "The step of staging holds production's key.", ("staging", "staging/operator", "production/operator")),
    way("L028", "The diagnosis logs in as the user that changes production.", ("diagnose", "user: reader", "user: operator")),
    way("L028", "The verifier of production is root.", ("", "production.example\n    protected: true\n    verifier:\n      user: verifier", "production.example\n    protected: true\n    verifier:\n      user: root")),
    way("L016", "The verifier measures with the key of the step that it judges.", ("", "production/verifier", "production/operator")),
    way("L026", "A step that needs no secret holds one of production.", ("fix", "access: none", "access: none\n    secrets: [{name: spare, engine: kv, path: kv/data/example/production/spare, fields: [key]}]")),
    # -- the way back
    way("L004", "The rollback of production was never rehearsed.", ("staging", "    rehearse: true\n", "")),
    way("L004", "What undoes production is another script than was rehearsed.", ("production", "script: rollback.sh", "script: fix.sh")),
    way("L004", "The rollback was rehearsed after another change than production's.", ("staging", block("staging"), block("staging").replace("apply.sh", "diagnose.sh") + block("tested").replace("id: tested", "id: first").replace("      - {id: same", "      - {id: same2").replace("of: production,", "of: again,") + block("staging").replace("id: staging", "id: again").replace("    rehearse: true\n", "")), ("tested", "of: staging", "of: again"), ("tested", "equals: staging", "equals: again")),
    way("L004", "The rehearsal happens in production.", ("production", "    rollback:\n", "    rehearse: true\n    rollback:\n")),
    # -- the alert's words
    way("L010", "The alert may say anything.", ("", ", pattern: '^[a-z][a-z0-9-]{0,30}$'", "")),
    way("L035", "The alert may say `; reboot`.", ("", "'^[a-z][a-z0-9-]{0,30}$'", "'^[a-z; ]{1,30}$'")),
    way("L030", "The alert's words become a shell's text on production.", ("healthy", 'run: [systemctl, is-active, "{{ inputs.unit }}"]', 'run: [sh, -c, "systemctl is-active {{ inputs.unit }}"]')),
    way("L030", "The alert chooses the verifier's program.", ("healthy", "run: [systemctl, is-active,", 'run: ["{{ inputs.unit }}", is-active,')),
    way("L036", "A script on production evaluates what it was given.", rollback='eval "ssh target -- restart $1"'),
    way("L036", "A prompt is filled in with the alert's words.", ("fix", "access: none", "access: none   # reads prompt.md"), prompt="You are careful. The unit is {{ inputs.unit }}."),
)
