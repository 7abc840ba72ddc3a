"""What `signalbox agent eval` does. Apart from the command, since it needs the libraries of the extra `agent`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from engine.agents.evals import Bench, Claims, Hired, Outcome, Tried, evaluate
from engine.agents.models import Model, Models, Price, load_models
from engine.agents.proxy import ModelProxy
from engine.agents.replay import ReplayServer, read_tape
from engine.agents.situations import Situation, agent_step, situations
from engine.agents.toolbox import Metrics
from engine.agents.work import AgentWork
from engine.commands.table import table
from engine.domain.agent import Api
from engine.domain.errors import BadInput, Refused
from engine.domain.gate import ExprCheck, Facts, Sample
from engine.domain.runbook import Snapshot
from engine.domain.runners import Agents
from engine.domain.states import Verdict
from engine.gates import condition, expr
from engine.proving.kinds.port import no_probe
from engine.runbooks.shelf import Shelf
from engine.runtime.runners.agent import AgentRunner
from engine.secrets.redact import Redactor
from engine.settings import Settings

HEAD = ("situation", "outcome", "gate", "requests", "tokens", "cost", "seconds", "refused", "not recorded")
REPLAYED = Model(name="", api=Api.ANTHROPIC, model="", url="", max_output_tokens=8192)
""" What a replayed model is where SIGNALBOX_MODELS has none of its name: without a price. """


def tried(
    settings: Settings,
    name: str,
    *,
    replay: Path | None,
    only: Sequence[str],
    times: int,
    on_output: Callable[[str], None],
) -> tuple[Tried, ...]:
    """Try the step of this name in its situations. `replay`: a folder of tapes. Raises BadInput."""
    snapshot, step = found(Shelf(settings.runbooks), name)
    chosen = _chosen(situations(snapshot, step), only)
    bench = Bench(
        hired=_replaying(settings, snapshot, step, replay) if replay is not None else _live(settings),
        judge=_judge,
        condition=lambda expression, variables: condition.judge(expression, variables, {}),
        conclude=AgentRunner().conclude,
        redactor=Redactor(),
        on_output=on_output,
    )
    return evaluate(snapshot, step, chosen, bench, times)


def found(shelf: Shelf, name: str) -> tuple[Snapshot, str]:
    """The runbook and the step of RUNBOOK/STEP, or of a STEP that one runbook alone has. Raises BadInput."""
    runbook, _, step = name.rpartition("/")
    if runbook:
        snapshot = shelf.read(runbook)
        agent_step(snapshot.runbook, step)
        return snapshot, step
    having = [one for one in map(shelf.read, shelf.valid()) if _has(one, step)]
    if len(having) != 1:
        names = ", ".join(f"{one.runbook.name}/{step}" for one in having)
        raise BadInput(
            f"{'several runbooks have' if having else 'no runbook has'} an agent's step {step!r}",
            f"say which: {names}" if having else "see signalbox runbook list",
        )
    return having[0], step


def _has(snapshot: Snapshot, step: str) -> bool:
    try:
        agent_step(snapshot.runbook, step)
    except BadInput:
        return False
    return True


def _chosen(known: Sequence[Situation], only: Sequence[str]) -> tuple[Situation, ...]:
    names = [situation.name for situation in known]
    for name in only:
        if name not in names:
            raise BadInput(f"there is no situation {name!r}", f"there is {', '.join(names)}")
    return tuple(situation for situation in known if not only or situation.name in only)


# -- who works, and who judges ----------------------------------------------------------------------------------------


def _agents_md(settings: Settings) -> Callable[[], str]:
    return lambda: settings.agents_md.read_text() if settings.agents_md.exists() else ""


def _live(settings: Settings) -> Hired:
    proxy = ModelProxy(lambda: load_models(settings.models))

    @contextlib.contextmanager
    def hired(_: Situation, metrics: Metrics) -> Iterator[Agents]:
        yield AgentWork(proxy, _agents_md(settings), metrics)

    return hired


def _replaying(settings: Settings, snapshot: Snapshot, step: str, tapes: Path) -> Hired:
    _, rule = agent_step(snapshot.runbook, step)
    like = load_models(settings.models).by_name.get(rule.model, REPLAYED)

    @contextlib.contextmanager
    def hired(situation: Situation, metrics: Metrics) -> Iterator[Agents]:
        with ReplayServer(read_tape(tapes / f"{situation.name}.yaml")) as server:
            models = Models(settings.models, {rule.model: _played(like, rule.model, server.url)})
            yield AgentWork(ModelProxy(lambda: models), _agents_md(settings), metrics)
            if server.refused:
                raise Refused(server.refused[0])

    return hired


def _judge(check: ExprCheck, claims: Claims) -> Sample:
    return expr.measure(check, Facts(inputs={}, claims=claims, digests={}), no_probe)


def _played(like: Model, name: str, url: str) -> Model:
    """A model of this format and price, at the replay server, which wants no key. Without a known price it costs
    nothing, and a budget in dollars does not end it."""
    price = like.price or Price(input=0, output=0)
    model = like.model or name
    return replace(like, name=name, model=model, url=f"{url}/v1", key_env=None, key_file=None, ca=None, price=price)


# -- what is printed --------------------------------------------------------------------------------------------------


def lines(tried: Sequence[Tried], at_least: int) -> Iterator[str]:
    """The table, what did not pass and why, and the pass rate."""
    yield from table(HEAD, [_row(one) for one in tried])
    yield ""
    for one in tried:
        if not one.passed:
            yield f"{one.situation}: {one.outcome}: {one.why}"
        for asked in one.unrecorded:
            yield f"{one.situation}: nobody recorded what this answers: {asked}"
    passed = sum(one.passed for one in tried)
    told = f"{passed} of {len(tried)} passed ({100 * passed // len(tried)} %)"
    wrongly = sum(one.outcome is Outcome.WRONG and one.gate is Verdict.HELD for one in tried)
    if wrongly:
        told += f"; {wrongly} wrong with a gate that holds on the claim: only its independent checks are left"
    yield told if enough(tried, at_least) else f"{told}; at least {at_least} % must"


def _row(one: Tried) -> tuple[object, ...]:
    usage = one.usage
    return (
        one.situation,
        one.outcome.value if one.passed or one.outcome is not Outcome.RIGHT else "right, but its gate is not",
        one.gate.value if one.gate is not None else "-",
        usage.requests,
        usage.tokens,
        f"${usage.microdollars / 1e6:.4f}" if usage.microdollars else "-",
        f"{one.seconds:.1f}",
        one.refused,
        len(one.unrecorded),
    )


def enough(tried: Sequence[Tried], at_least: int) -> bool:
    """Whether at least so many per cent passed."""
    return 100 * sum(one.passed for one in tried) >= at_least * len(tried)
