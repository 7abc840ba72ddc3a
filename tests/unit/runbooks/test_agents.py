"""Steps of agents in a runbook: how they are written, what becomes of them, what of them is refused, what is told."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from engine.domain.agent import AgentRule, Budget, CommandRule, LogSource, Tools, Where
from engine.domain.errors import BadInput
from engine.domain.runbook import Access, Runbook, ScriptStep, Tool
from engine.runbooks import Shelf, permissions, picture, skeleton
from engine.runbooks.comparison import State, compare
from engine.runbooks.rules.agents import MAX_PROMPT_BYTES
from tests.unit.runbooks.judged import rules, said

TEXT, FILES = skeleton.AGENT.text, dict(skeleton.AGENT.files)
TO_STAGING = ("    target: production\n    access: read", "    target: staging\n    access: read")


def _runbook(text: str = TEXT) -> Runbook:
    return Shelf(Path("/nonexistent")).restore(text, FILES).runbook


def _steps(text: str = TEXT) -> dict[str, ScriptStep]:
    return {step.id: step for step in _runbook(text).steps if isinstance(step, ScriptStep)}


def bent(*pairs: tuple[str, str]) -> str:
    """The runbook with each first text in place of the other."""
    text = TEXT
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def test_an_agent_looks_and_may_always_be_run_again() -> None:
    step = _steps()["diagnose"]

    assert (step.tool, step.access, step.idempotent) == (Tool.AGENT, Access.READ, True)
    assert (step.script.file, step.script.args) == ("diagnose.md", ())
    assert (step.image, step.memory_mb, step.timeout_s) == ("step", 384, 300)
    assert (step.approval, step.rollback, step.rehearse) == (None, None, False)
    assert step.login is not None
    assert step.output is not None
    assert step.agent == AgentRule(
        model="careful",
        context=("services.md",),
        tools=Tools(
            run=(
                CommandRule(argv=("systemctl", "status", "*"), on=Where.TARGET),
                CommandRule(argv=("du", "-x", "-d1", "/srv/**"), on=Where.TARGET),
            ),
            metrics=("web_*",),
            logs=(LogSource(name="web", argv=("tail", "-n", "200", "/srv/web/web.log")),),
        ),
        budget=Budget(requests=20, tokens=120_000, calls=40, microdollars=500_000),
    )


def test_what_is_not_granted_is_not_there() -> None:
    """A command without `on` runs in the VM; without `ask` nobody is asked; without `usd` there is no such limit."""
    step = _steps()["fix"]

    assert step.agent is not None
    assert step.agent.tools.run == (CommandRule(argv=("python3", "/step/out/**"), on=Where.VM, ask=False),)
    assert step.agent.budget.microdollars is None
    assert (step.agent.tools.metrics, step.agent.tools.logs, step.agent.context) == ((), (), ())
    assert step.produces is not None
    assert _steps(bent(('/srv/**"]}', '/srv/**"], ask: true}')))["diagnose"].agent != _steps()["diagnose"].agent


@pytest.mark.parametrize(
    ("written", "tokens"), [("120k", 120_000), ("120000", 120_000), ("1k", 1000), ("5000k", 5_000_000)]
)
def test_tokens_are_a_number_or_thousands(written: str, tokens: int) -> None:
    agent = _steps(bent(("requests: 20, tokens: 120k", f"requests: 2, tokens: {written}")))["diagnose"].agent

    assert agent is not None
    assert agent.budget.tokens == tokens


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("    access: read\n", "    access: write\n", "steps[1].access is 'write' - write one of none, read"),
        ("    timeout: 5m\n", "    timeout: 5m\n    approve: {expires: 5m}\n", "unknown key steps[1].approve"),
        ("    timeout: 5m\n", "    timeout: 5m\n    rehearse: true\n", "unknown key steps[1].rehearse"),
        ("    timeout: 5m\n", "    timeout: 5m\n    rollback: {none: nothing at all}\n", "unknown key steps[1].rollb"),
        ("kind: agent", "kind: agnt", "did you mean agent?"),
        ("    model: careful\n", "", "steps[1].model is missing - add it: the name of a model of the file"),
        ("    model: careful\n", "    modle: careful\n", "did you mean model?"),
        ("    prompt: diagnose.md\n", "    prompt: ../diagnose.md\n", "steps[1].prompt is '../diagnose.md'"),
        ("    timeout: 5m\n", "    timeout: 5m\n    budgets: 1\n", "did you mean budget?"),
        ("requests: 20", "requests: 0", "steps[1].budget.requests is 0"),
        ("requests: 20", "requests: 201", "steps[1].budget.requests is 201"),
        ("calls: 40, usd", "calls: 501, usd", "steps[1].budget.calls is 501"),
        ("tokens: 120k", "tokens: 120K", "such as 120k"),
        ("tokens: 120k", "tokens: 12.5k", "such as 120k"),
        ("tokens: 120k", "tokens: 999", "steps[1].budget.tokens is 999"),
        ("tokens: 120k", "tokens: 5001k", "steps[1].budget.tokens is '5001k'"),
        ("tokens: 120k", "tokens: true", "steps[1].budget.tokens is True"),
        ("usd: 0.50", "usd: 0", "steps[1].budget.usd is 0"),
        ("usd: 0.50", "usd: .inf", "steps[1].budget.usd is inf"),
        ("usd: 0.50", "usd: .nan", "steps[1].budget.usd is nan"),
        ("on: target", "on: production", "steps[1].tools.run[0].on is 'production' - write one of vm, target"),
        ('argv: [systemctl, status, "*"]', 'argv: "systemctl status *"', "steps[1].tools.run[0].argv"),
        ('argv: [systemctl, status, "*"]', "argv: []", "steps[1].tools.run[0].argv"),
        ('["web_*"]', '["*"]', "write the name of a metric, or how names begin"),
        ('["web_*"]', '["w*"]', "steps[1].tools.metrics[0] is 'w*'"),
        ('["web_*"]', '["we*b"]', "steps[1].tools.metrics[0] is 'we*b'"),
        ('["/step/**"]', '["/**"]', "write an absolute path, or a folder with all in it"),
        ('["/step/**"]', '["step/**"]', "write an absolute path"),
        ('["/step/**"]', '["/step/*"]', "write an absolute path"),
        ('["/step/out/**"]\n    budget', '["/step/o ut"]\n    budget', "write an absolute path"),
    ],
)
def test_what_does_not_fit_the_format_is_told_with_its_place(old: str, new: str, why: str) -> None:
    with pytest.raises(BadInput) as refusal:
        _runbook(bent((old, new)))

    assert why in str(refusal.value)
    assert all(line.split(":")[1].isdigit() for line in str(refusal.value).splitlines())


_CLAIMS_ONLY = ("      - {id: ill, type: http, target: production, path: /healthz, expect: status != 200}\n", "")
_SCHEMA = "type: schema, of: diagnose, schema: {type: object, required: [cause]}}"
_NOTE = "  - {id: note, kind: script, script: apply.sh, uses: fix, access: none, timeout: 1m, idempotent: true}\n"
_SAYS = ("    produces: {name: fix}\n", "    produces: {name: fix}\n    output: {required: [what]}\n")
_SOUND = """\
  - id: sound
    kind: gate
    of: fix
    checks: [{id: well, type: http, target: staging, path: /healthz, expect: status == 200}]
"""
_LATER = "  # do, undo, measure the undoing, do again\n"


@pytest.mark.parametrize(
    ("rule", "pairs"),
    [
        ("L003", [_CLAIMS_ONLY]),
        (
            "L003",
            [
                _CLAIMS_ONLY,
                ('type: expr, of: diagnose, unless: out.cause == "unknown", expect: out.cause == "stuck"}', _SCHEMA),
            ],
        ),
        ("L005", [("example/production/reader", "example/staging/operator")]),
        (
            "L007",
            [
                TO_STAGING,
                (
                    "  - id: staging\n",
                    "  - id: look\n    kind: agent\n    uses: fix\n"
                    + TEXT[TEXT.index("    model:") : TEXT.index("  # is it really")]
                    + "  - id: staging\n",
                ),
            ],
        ),
        ("L008", [("    timeout: 5m\n", "    timeout: 30m\n")]),
        ("L015", [("    login: {user: reader, key: ssh}\n", "    login: {user: reader, key: sh}\n")]),
        ("L022", [("prompt: diagnose.md", "prompt: diagnos.md")]),
        ("L025", [("    timeout: 5m\n", "    timeout: 5m\n    image: step-agnt\n")]),
        (
            "L026",
            [(", port: 22}]\n", ", port: 22}, {host: mirror.example, port: 443}]\n")],
        ),
        ("L028", [("user: reader", "user: root")]),
        ("L060", [("[services.md]", "[services.md, services.md]")]),
        ("L060", [("[services.md]", "[diagnose.md]")]),
        ("L060", [("[services.md]", "[hosts.md]")]),
        ("L061", [_SAYS]),
        ("L061", [(_LATER, _NOTE)]),
        ("L062", [("cause: [stuck, unknown]", "cause: [stuck]")]),
        ("L067", [("requests: 20, tokens: 120k", "requests: 1, tokens: 120k")]),
    ],
)
def test_what_is_not_safe_is_refused(rule: str, pairs: list[tuple[str, str]]) -> None:
    problems = said(bent(*pairs), FILES)

    assert rule in rules(problems), problems


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [(_SAYS[0], _SAYS[1]), (_LATER, _SOUND)],
        [(_LATER, _SOUND + _NOTE)],
        [("    timeout: 5m\n", "    timeout: 18m\n")],
    ],
)
def test_what_is_safe_is_clean(pairs: list[tuple[str, str]]) -> None:
    assert said(bent(*pairs), FILES) == []


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"x" * (MAX_PROMPT_BYTES + 1), "bytes, more than"),
        (b"caf\xe9", "is not UTF-8 at byte 3"),
        (b" \n\t", "says nothing"),
        (b"one\ntwo\x00", "nobody sees (U+0000) in line 2"),
        ("be kind\u202e".encode(), "nobody sees (U+202E) in line 1"),
        ("\ufeffbe kind".encode(), "nobody sees (U+FEFF) in line 1"),
        (b"look at {{ target.host }}", "{{ target.host }}, which is not filled in there"),
    ],
)
@pytest.mark.parametrize("file", ["diagnose.md", "services.md"])
def test_a_prompt_is_text_that_a_reviewer_sees(file: str, data: bytes, why: str) -> None:
    problems = said(TEXT, FILES | {file: data})

    assert rules(problems) == {"L060"}
    assert f"{file} " in problems[0]
    assert why in problems[0]


@pytest.mark.parametrize("file", ["diagnose.md", "services.md"])
def test_an_alerts_words_are_never_part_of_what_an_agent_is_told(file: str) -> None:
    problems = said(TEXT, FILES | {file: b"Mend {{ inputs.unit }}.\n"})

    assert rules(problems) == {"L036"}
    assert "/step/inputs.json" in problems[0]


def test_windows_ends_of_lines_and_other_languages_are_text() -> None:
    assert said(TEXT, FILES | {"diagnose.md": "Schau hin.\r\n\t見る {x} {{\r\n".encode()}) == []


def test_instructions_that_the_budget_cannot_say_are_refused() -> None:
    files = FILES | {"diagnose.md": b"word " * 3000, "services.md": b"word " * 3000}

    assert rules(said(bent(("tokens: 120k", "tokens: 149k")), files)) == {"L067"}
    assert said(bent(("tokens: 120k", "tokens: 150k")), files) == []


def test_an_agent_without_tools_is_one_request() -> None:
    text = bent(
        (
            TEXT[
                TEXT.index("    tools:\n      run: [{argv") : TEXT.index(
                    "    budget: {requests: 20, tokens: 120k, calls: 40}\n"
                )
            ],
            "",
        ),
        (
            "budget: {requests: 20, tokens: 120k, calls: 40}\n    produces: {name: fix}\n",
            "budget: {requests: 1, tokens: 120k, calls: 1}\n",
        ),
    )
    problems = said(text, FILES)

    assert rules(problems) == {"L013"}, problems  # nothing makes what staging and production apply


def test_people_are_told_that_it_is_an_agent() -> None:
    runbook = _runbook()

    assert "reads production as reader: agent careful told diagnose.md" in picture.graph(runbook)
    assert "agent careful told fix.md, makes fix" in picture.mermaid(runbook)
    shown = picture.show(runbook, {})
    assert "diagnose: an agent of the model careful, told diagnose.md, services.md; says cause" in shown
    assert "      thinks by the model careful\n" in shown
    assert "      may run systemctl status '*' on production.example\n" in shown
    assert "      spends at most tokens: 120,000\n" in shown


def test_the_grants_name_all_that_an_agent_may_do_and_what_its_model_is_shown() -> None:
    """A tool or a part of a budget that is new must have a row: nothing is granted that the report does not say."""
    runbook = _runbook(bent(('/srv/**"]}', '/srv/**"], ask: true}')))
    rows = {(row.who, str(row.kind), row.shown) for row in permissions.of(runbook) if row.by == "agent"}

    assert {(kind, what) for who, kind, what in rows if who == "diagnose"} >= {
        ("model", "careful"),
        ("run", "systemctl status '*' on production.example"),
        ("run", "du -x -d1 '/srv/**' on production.example: each after a yes"),
        ("log", "web (tail -n 200 /srv/web/web.log)"),
        ("metric", "web_*"),
        ("budget", "requests: 20"),
        ("budget", "tokens: 120,000"),
        ("budget", "calls: 40"),
        ("budget", "dollars: 0.50"),
        ("shown to it", "the text of diagnose.md"),
        ("shown to it", "the text of services.md"),
        ("shown to it", "input unit"),
        ("shown to it", "what its tools answer, secrets taken out"),
    }
    assert {(kind, what) for who, kind, what in rows if who == "fix"} >= {
        ("run", "python3 '/step/out/**' in its VM"),
        ("read", "/step/**"),
        ("write", "/step/out/**"),
        ("budget", "dollars: no limit of its own"),
        ("shown to it", "what diagnose said"),
    }
    assert {one.name for one in fields(Tools)} == {"run", "reads", "writes", "metrics", "logs"}
    assert {one.name for one in fields(Budget)} == {"requests", "tokens", "calls", "microdollars"}


def test_a_row_of_the_report_is_plain_json() -> None:
    rows = [row.as_json() for row in permissions.of(_runbook())]

    assert all(isinstance(value, str) for row in rows for value in row.values())
    assert {"what": "tokens", "limit": "120,000", "kind": "budget"}.items() <= next(
        row for row in rows if row["kind"] == "budget" and row["what"] == "tokens"
    ).items()
    assert all("limit" not in row for row in rows if row["kind"] == "target")


@pytest.mark.parametrize(
    ("pair", "change"),
    [
        (("tokens: 120k", "tokens: 130k"), "~ diagnose, budget tokens: 120,000  ->  130,000   <- wider"),
        (("tokens: 120k", "tokens: 110k"), "~ diagnose, budget tokens: 120,000  ->  110,000"),
        ((", usd: 0.50", ""), "~ diagnose, budget dollars: 0.50  ->  no limit of its own   <- wider"),
        (("usd: 0.50", "usd: 0.25"), "~ diagnose, budget dollars: 0.50  ->  0.25"),
        (
            ("[systemctl, status,", "[systemctl, show,"),
            "+ diagnose, run systemctl show '*' on production.example: reads   <- wider",
        ),
        (('["web_*"]', '["web_*", "host_*"]'), "+ diagnose, metric host_*: reads   <- wider"),
        (("model: careful", "model: quick"), "+ diagnose, model quick: reads   <- wider"),
        (("[services.md]", "[]"), "- diagnose, shown to it the text of services.md: reads"),
    ],
)
def test_what_was_made_wider_is_seen(pair: tuple[str, str], change: str) -> None:
    differences = [str(one) for one in compare(State("a", TEXT, FILES), State("b", bent(pair), FILES))]

    assert change in differences


def test_a_yes_that_is_no_longer_asked_is_wider() -> None:
    asks = bent(('/srv/**"]}', '/srv/**"], ask: true}'))
    (dropped,) = compare(State("a", asks, FILES), State("b", TEXT, FILES))
    (added,) = compare(State("a", TEXT, FILES), State("b", asks, FILES))

    assert (dropped.mark, added.mark) == ("wider", "")
