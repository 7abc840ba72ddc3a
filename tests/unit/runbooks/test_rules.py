"""Every rule, red and green: a good runbook, bent in one place."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.runbooks.good import FILES, Raw, place, problems, raw, step

Bend = Callable[[Raw], object]


def assign(step_id: str, **values: Any) -> Bend:
    return lambda r: step(r, step_id).update(values)


def drop(step_id: str, *keys: str) -> Bend:
    return lambda r: [step(r, step_id).pop(key) for key in keys]


def remove(step_id: str) -> Bend:
    return lambda r: r["steps"].pop(place(r, step_id))


def check(step_id: str, number: int, **values: Any) -> Bend:
    return lambda r: step(r, step_id)["checks"][number].update(values)


def append(step_id: str, key: str, value: Any) -> Bend:
    return lambda r: step(r, step_id).setdefault(key, []).append(value)


def several(*bends: Bend) -> Bend:
    return lambda r: [bend(r) for bend in bends]


HTTP = {"id": "h", "type": "http", "target": "production", "path": "/", "expect": "status == 200"}
COMMAND = {"id": "c", "type": "command", "target": "production", "run": ["state"], "expect": "code == 0"}
DIGEST = {"id": "d", "type": "digest", "of": "production", "equals": "staging"}
SECRET = {"name": "extra", "engine": "kv", "path": "kv/data/extra", "fields": ["key"]}


def dial(host: str, port: int = 22) -> Bend:
    return append("look", "network", {"host": host, "port": port})


def pattern(text: str) -> Bend:
    return lambda r: r["inputs"].update(unit={"from": "alert.labels.unit", "pattern": text})


def swap(one: str, other: str) -> Bend:
    def bend(r: Raw) -> None:
        here, there = place(r, one), place(r, other)
        r["steps"][here], r["steps"][there] = r["steps"][there], r["steps"][here]

    return bend


def query(text: str) -> Bend:
    return check("healthy", 0, query=text)


BROKEN: list[tuple[str, str, Bend, str]] = [
    # names and order
    ("L000", "two steps of one name", lambda r: step(r, "make").update(id="look"), "a second step is called look"),
    ("L000", "two checks of one name", check("tested", 1, id="answers"), "a second check is called answers"),
    ("L000", "two artefacts of one name", assign("look", produces={"name": "fix"}), "a second artefact is called fix"),
    ("L009", "step on an unknown target", assign("look", target="prod"), "there is no target prod"),
    ("L009", "check on an unknown target", check("healthy", 0, target="prod"), "there is no target prod"),
    ("L012", "no receive", remove("receive"), "the first step is not receive"),
    ("L012", "no close", remove("close"), "the last step is not close"),
    ("L012", "close twice", lambda r: r["steps"].insert(3, {"id": "x", "kind": "close"}), "in the middle of the line"),
    ("L013", "gate of nothing", assign("confirmed", of="lok"), "there is no script step lok before confirmed"),
    ("L013", "gate of a later step", assign("confirmed", of="make"), "there is no script step make before confirmed"),
    ("L013", "gate of a gate", assign("tested", of="confirmed"), "there is no script step confirmed before tested"),
    ("L013", "artefact of nothing", assign("staging", uses="fix"), "no step fix before staging produces an artefact"),
    ("L013", "artefact of a step that makes none", assign("staging", uses="look"), "no step look before staging"),
    ("L013", "claim of nothing", check("confirmed", 0, of="make"), "no step make before it has an output"),
    ("L013", "digest of nothing", check("tested", 1, of="prod"), "there is no script step prod"),
    ("L013", "digest of the future", check("tested", 1, equals="production"), "no script step production before it"),
    ("L013", "digest of itself", check("tested", 1, of="staging"), "staging is compared with itself"),
    ("L022", "script that is not there", assign("look", script="lok.sh"), "lok.sh is not in the folder good/"),
    (
        "L022",
        "rollback that is not there",
        lambda r: step(r, "staging")["rollback"].update(script="und.sh"),
        "und.sh is not in the folder good/",
    ),
    (
        "L023",
        "an unprotected name for production",
        lambda r: r["targets"]["staging"].update(host="production.demo"),
        "production is the same host as staging",
    ),
    ("L024", "a verdict that dies before the answer", assign("tested", fresh_for="29m"), "the approval of production"),
    ("L024", "the default", drop("tested", "fresh_for"), "tested is good for 600 s"),
    ("L038", "a disk as large as the memory", assign("look", limits={"disk_mb": 384}), "may write 384 MB"),
    ("L038", "more than all of a processor", assign("look", limits={"cpu_percent": 101}), "may use 101 % of one"),
    # changes
    ("L001", "no gate after a change", remove("healthy"), "production changes production and no gate judges it"),
    ("L001", "gate of another step", assign("healthy", of="staging"), "no gate judges it"),
    ("L001", "gate only after the next change", swap("tested", "production"), "staging changes staging and no gate"),
    ("L020", "no gate before a change", remove("confirmed"), "staging changes staging and no gate stands before it"),
    ("L020", "two changes in a row", remove("tested"), "production changes production and no gate stands before it"),
    ("L002", "protected without artefact", drop("production", "uses"), "changes a protected target without `uses`"),
    ("L002", "other script", assign("production", script="look.sh"), "what no unprotected target had before"),
    ("L002", "other arguments", assign("production", args=["x"]), "what no unprotected target had before"),
    ("L002", "other image", assign("production", image="other"), "what no unprotected target had before"),
    (
        "L002",
        "tested on what is protected too",
        lambda r: r["targets"]["staging"].update(protected=True),
        "what no unprotected target had before",
    ),
    ("L002", "staging only read", assign("staging", access="read"), "what no unprotected target had before"),
    (
        "L002",
        "no digest check",
        lambda r: step(r, "tested")["checks"].pop(),
        "no digest check stands before production",
    ),
    (
        "L002",
        "digest check only after the change",
        several(lambda r: step(r, "tested")["checks"].pop(), append("healthy", "checks", DIGEST)),
        "no digest check stands before production",
    ),
    ("L002", "digest of other steps", check("tested", 1, of="look"), "no digest check stands before production"),
    (
        "L003",
        "claims only",
        lambda r: step(r, "confirmed")["checks"].pop(),
        "nothing independent judges look: it would certify itself",
    ),
    ("L003", "digest only", assign("healthy", checks=[DIGEST]), "nothing independent judges production"),
    ("L003", "the other target", check("healthy", 0, target="staging"), "no check measures production"),
    ("L003", "only from within", assign("healthy", checks=[COMMAND]), "production is judged only from within"),
    (
        "L003",
        "rollback judged only from within",
        lambda r: step(r, "production")["rollback"].update(checks=[COMMAND]),
        "production is judged only from within",
    ),
    (
        "L003",
        "rollback judged elsewhere",
        lambda r: step(r, "staging")["rollback"].update(checks=[HTTP]),
        "no check measures staging",
    ),
    ("L004", "no way back", drop("production", "rollback"), "production says no way back"),
    ("L004", "never rehearsed", drop("staging", "rehearse"), "the rollback of production was never rehearsed"),
    (
        "L004",
        "another rollback rehearsed",
        lambda r: step(r, "staging")["rollback"].update(script="look.sh"),
        "the rollback of production was never rehearsed",
    ),
    ("L004", "rehearsed in production", assign("production", rehearse=True), "works on a protected target"),
    (
        "L004",
        "rehearsal of nothing",
        assign("staging", rollback={"none": "it is rebuilt every night"}),
        "staging cannot be rehearsed: it has no rollback",
    ),
    ("L004", "rollback of a look", assign("look", rollback={"none": "nothing to undo here"}, rehearse=True), "nothing"),
    ("L019", "nobody approves", drop("production", "approve"), "production changes a protected target and nobody"),
    ("L019", "excuse beside approval", assign("production", unapproved="because it is so"), "means nothing on prod"),
    ("L019", "excuse where none is needed", assign("staging", unapproved="because it is so"), "means nothing on stag"),
    ("L021", "query of the other target", query('errors{env="staging"}'), "does not say that it is about production"),
    ("L021", "query of everything", query("errors"), "does not say that it is about production"),
    # grants
    (
        "L005",
        "one secret for two targets",
        lambda r: step(r, "staging")["secrets"][0].update(path="kv/data/production/operator"),
        "kv/data/production/operator serves both staging and production",
    ),
    (
        "L005",
        "one secret to read and to write",
        lambda r: step(r, "look")["secrets"][0].update(path="kv/data/production/operator"),
        "kv/data/production/operator serves both look and production",
    ),
    (
        "L016",
        "verifier with a step's key",
        lambda r: r["targets"]["production"]["verifier"]["secret"].update(path="kv/data/production/operator"),
        "the verifier of production has the secret of step production",
    ),
    (
        "L016",
        "one verifier for two targets",
        lambda r: r["targets"]["production"]["verifier"]["secret"].update(path="kv/data/staging/verifier"),
        "production and staging have one verifier's key",
    ),
    (
        "L016",
        "step as the verifier",
        assign("staging", login={"user": "verifier", "key": "ssh"}),
        "step staging logs in to staging as the verifier verifier",
    ),
    *[
        ("L006", f"dials {host}", dial(host), f"look may dial {host}")
        for host in (
            "*",
            "*.demo",
            "10.0.0.0/8",
            "0.0.0.0",  # noqa: S104 - is what must be refused
            "127.0.0.1",
            "169.254.169.254",
            "fd00::1",
            "localhost",
            "a.localhost",
            "metadata.google.internal",
            "{{ inputs.unit }}",
            "{{ inputs.unit }}.demo",
            "a demo",
            "a:80",
        )
    ],
    (
        "L006",
        "dials a target without having one",
        append("make", "network", {"host": "{{ target.host }}", "port": 22}),
        "the step has no target",
    ),
    ("L017", "dials the other target", dial("staging.demo"), "look may dial staging, which is not its target"),
    (
        "L017",
        "dials production from staging's step",
        append("staging", "network", {"host": "production.demo", "port": 22}),
        "staging may dial production, which is not its target",
    ),
    (
        "L017",
        "dials production from nowhere",
        append("make", "network", {"host": "production.demo", "port": 22}),
        "make may dial production, which is not its target",
    ),
    ("L017", "dials what a gate measures", dial("{{ target.host }}", 8080), "look may dial port 8080 of production"),
    ("L017", "the same by name", dial("production.demo", 8080), "look may dial port 8080 of production"),
    ("L015", "no login", drop("look", "login"), "look may read but cannot log in"),
    ("L015", "no target", drop("look", "target"), "look may read but has no target"),
    ("L015", "key of no secret", assign("look", login={"user": "reader", "key": "sh"}), "is none of its secrets"),
    ("L015", "no way to the target", assign("look", network=[]), "look logs in to production but may not dial it"),
    (
        "L015",
        "key of two fields",
        lambda r: step(r, "look")["secrets"][0].update(fields=["a", "b"]),
        "the key ssh has 2 fields",
    ),
    (
        "L015",
        "target without access",
        assign("make", target="staging"),
        "make has access: none but a target or a login",
    ),
    # words and times
    ("L008", "deadline too short", lambda r: r.update(deadline="30m"), "the deadline is shorter"),
    ("L008", "samples count", check("healthy", 0, sampling={"count": 60, "every": "3m"}), "the deadline is shorter"),
    ("L010", "free input", lambda r: r["inputs"]["unit"].pop("pattern"), "input unit has no bounds"),
    (
        "L010",
        "enum and pattern",
        lambda r: r["inputs"]["unit"].update(enum=["a"]),
        "input unit has both an enum and a pattern",
    ),
    ("L010", "no anchor before", pattern("[a-z]{1,9}$"), "is not anchored"),
    ("L010", "no anchor after", pattern("^[a-z]{1,9}"), "is not anchored"),
    ("L010", "escaped anchor", pattern(r"^[a-z]{1,9}\$"), "is not anchored"),
    ("L010", "anchor in a class", pattern("[^$]{1,9}[$]"), "is not anchored"),
    ("L010", "alternatives", pattern("^a|b$"), "has alternatives; use an enum"),
    ("L010", "no largest length", pattern("^[a-z]+$"), "has no largest length"),
    ("L010", "anything", pattern("^.*$"), "has no largest length"),
    ("L010", "open range", pattern("^[a-z]{1,}$"), "has no largest length"),
    ("L010", "an option for a command", pattern("^[a-z-]{1,30}$"), "lets a value begin with a hyphen"),
    ("L010", "no expression", pattern("^[a-z$"), "is no regular expression"),
    ("L014", "unknown input", assign("look", args=["{{ inputs.unti }}"]), "unknown placeholder {{ inputs.unti }}"),
    ("L014", "logic", assign("look", args=["{{ inputs.unit | upper }}"]), "malformed placeholder"),
    ("L014", "target of a step without one", assign("make", args=["{{ target.host }}"]), "unknown placeholder"),
    ("L014", "unknown name in a command", check("confirmed", 1, run=["x", "{{ target.user }}"]), "unknown placeholder"),
    ("L014", "unknown name in a path", check("tested", 0, path="/{{ inputs.x }}"), "unknown placeholder"),
    (
        "L014",
        "unknown name in a rollback",
        lambda r: step(r, "staging")["rollback"].update(args=["{{ inputs.x }}"]),
        "unknown placeholder",
    ),
    ("L014", "query: outside of quotes", query('{{ inputs.unit }}{env="production"}'), "stands outside of quotes"),
    ("L014", "query: backquotes", query("errors{env=`production`}"), "the query has backquotes"),
    ("L018", "condition that is no CEL", check("tested", 0, expect="status = 200"), "status = 200: "),
    ("L018", "unknown variable", check("tested", 0, expect="out == 200"), "out is not measured; there is body"),
    ("L018", "unknown function", check("tested", 0, expect="body.trim() == 'a'"), "there is no function trim"),
    ("L018", "condition that is always true", check("tested", 0, expect="1 == 1"), "looks at nothing"),
    ("L018", "three loops", check("confirmed", 1, expect="out.all(a, out.all(b, out.all(c, a == b)))"), "more than 2"),
    ("L018", "broken unless", check("confirmed", 0, unless="out."), "out.: "),
]


def test_the_good_runbook_keeps_every_rule() -> None:
    assert problems(raw()) == []


@pytest.mark.parametrize(("rule", "name", "bend", "what"), BROKEN, ids=[f"{one[0]} {one[1]}" for one in BROKEN])
def test_a_broken_rule_is_named(rule: str, name: str, bend: Bend, what: str) -> None:
    values = raw()
    bend(values)

    found = [line for line in problems(values) if line.endswith(f"[{rule}]")]

    assert any(what in line for line in found), "\n".join(problems(values)) or "it loaded"
    assert all(re.match(r"\d+: .+ - .+ \[L\d{3}\]$", line) for line in found)


MADE: Raw = {"produces": None}
SPARE: Raw = {
    "host": "spare.demo",
    "verifier": {"user": "v", "secret": {"name": "ssh", "engine": "kv", "path": "kv/data/spare", "fields": ["key"]}},
}

ALLOWED: list[tuple[str, str, Bend]] = [
    ("L000", "one name for checks of two gates", check("confirmed", 1, id="answers")),
    ("L001", "a look between change and gate", lambda r: r["steps"].insert(5, {**step(r, "make"), "id": "m"} | MADE)),
    ("L002", "digest check among others", append("tested", "checks", {**HTTP, "id": "h2", "target": "staging"})),
    ("L003", "a command beside the view from off the host", append("healthy", "checks", COMMAND)),
    ("L004", "no way back, with the reason", several(assign("production", rollback={"none": "a cache is emptied"}))),
    (
        "L004",
        "nothing to rehearse when production has no rollback",
        several(
            assign("production", rollback={"none": "a cache is emptied"}),
            assign("staging", rollback={"none": "a cache is emptied"}),
            drop("staging", "rehearse"),
        ),
    ),
    ("L005", "one secret for two looks at one target", lambda r: r["steps"].insert(2, {**step(r, "look"), "id": "l2"})),
    (
        "L006",
        "a host of the directory",
        several(append("make", "network", {"host": "mirror.demo", "port": 443}), assign("make", args=["mirror.demo"])),
    ),
    ("L008", "exactly the deadline", lambda r: r.update(deadline="38m")),
    ("L009", "a target that no step uses", lambda r: r["targets"].update(spare=SPARE)),
    ("L010", "an enum", lambda r: r["inputs"].update(unit={"from": "alert.labels.unit", "enum": ["a", "b"]})),
    ("L010", "quantifiers within a class", pattern("^[a-z@+]{1,9}$")),
    ("L012", "the shortest line", lambda r: r["steps"].__setitem__(slice(1, -1), [])),
    ("L013", "a digest of a step that comes next", check("tested", 1, of="production")),
    ("L014", "name and port of the target", assign("look", args=["{{ target.name }}:{{target.port}}"])),
    ("L014", "a placeholder within quotes", query('errors{env="production",unit="{{ inputs.unit }}"}')),
    (
        "L015",
        "a second secret beside the key",
        several(append("look", "secrets", SECRET), assign("look", args=["/run/secrets/extra"])),
    ),
    ("L016", "one name of user on two targets", lambda r: r),
    ("L017", "the target's own port by its name", assign("look", network=[{"host": "production.demo", "port": 22}])),
    ("L018", "a loop's own variable", check("healthy", 0, expect="result.all(r, r < 0.1) && size(result) > 0")),
    (
        "L019",
        "a written reason",
        several(drop("production", "approve"), assign("production", unapproved="is done hourly by hand anyway")),
    ),
    ("L020", "one gate is after one change and before the next", lambda r: r),
    ("L021", "the host's name", query('errors{instance="{{ target.host }}:80"}')),
    ("L022", "an unused file", lambda r: r),
    ("L023", "two hosts", lambda r: r),
    ("L024", "a longer one", assign("tested", fresh_for="2h")),
    ("L026", "a smaller disk", assign("look", limits={"disk_mb": 383})),
    ("L026", "more memory", assign("look", memory_mb=1024, limits={"disk_mb": 600})),
    ("L026", "two processors", assign("look", limits={"cpu_percent": 200, "vcpus": 2})),
]


@pytest.mark.parametrize(("rule", "name", "bend"), ALLOWED, ids=[f"{one[0]} {one[1]}" for one in ALLOWED])
def test_what_a_rule_allows_loads(rule: str, name: str, bend: Bend) -> None:
    values = raw()
    bend(values)

    assert problems(values, FILES | {"lib/readme.txt": b"x"}) == []


def test_all_broken_rules_are_said_at_once() -> None:
    values = raw()
    several(remove("healthy"), dial("*"), pattern(".*"), drop("production", "approve"))(values)

    rules = {line[-5:-1] for line in problems(values)}

    assert rules == {"L001", "L006", "L010", "L019"}
