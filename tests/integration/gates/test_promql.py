"""Gate kind `promql` against a real Prometheus: what is there, what is not, what is too old, what is wrong."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from engine.domain.directory import Directory
from engine.domain.gate import Facts, PromqlCheck, Sample
from engine.domain.ports import ProbeAnswer
from engine.domain.states import Verdict
from engine.gates import kinds
from tests.integration.gates.conftest import Pages, Prometheus

LEAVES_ITS_QUOTES = '",env="staging'
FACTS = Facts(inputs={"path": LEAVES_ITS_QUOTES}, claims={}, digests={}, hosts={"staging": "staging.demo"})
ROOM = PromqlCheck(
    id="room",
    target="staging",
    query='disk_used_ratio{env="staging"}',
    expect="result[0] < 0.8",
    max_age_s=30,
    timeout_s=5,
)


def no_probe(target: str, argv: tuple[str, ...], timeout_s: float) -> ProbeAnswer:
    raise AssertionError("this kind must not run a command")


def measure(url: str, check: PromqlCheck) -> Sample:
    return kinds(Directory(sites={}), url)["promql"](check, FACTS, no_probe)


@pytest.fixture(autouse=True)
def scraped(prometheus: Prometheus) -> None:
    """Every test begins with a fresh sample of the page's first state."""
    prometheus.show("disk_used_ratio 0.5\nempty_ratio NaN\n")
    prometheus.wait("disk_used_ratio")


def test_a_fresh_value_is_judged(prometheus: Prometheus) -> None:
    sample = measure(prometheus.url, ROOM)

    assert (sample.verdict, sample.why) == (Verdict.HELD, "result[0] < 0.8, with result = [0.5]")
    assert measure(prometheus.url, replace(ROOM, expect="result[0] > 0.8")).verdict is Verdict.FAILED


def test_the_evidence_holds_query_series_and_age(prometheus: Prometheus) -> None:
    seen = measure(prometheus.url, ROOM).seen

    assert isinstance(seen, dict)
    assert seen["query"] == ROOM.query
    assert '"env": "staging"' in json.dumps(seen["series"])
    assert isinstance(seen["age_s"], list)


@pytest.mark.parametrize(
    "query",
    [
        "nothing_here",
        "sum(nothing_here)",
        "nothing_here or vector(0)",
        "sum(nothing_here) or vector(0)",
        'disk_used_ratio{env="production"}',
        "disk_used_ratio > 0.9",
        "empty_ratio",
        "disk_used_ratio / 0",
        "scalar(nothing_here)",
        "absent(nothing_here)",
    ],
)
def test_no_data_is_inconclusive_and_never_holds(prometheus: Prometheus, query: str) -> None:
    """Also where a number is made out of nothing, and whatever the condition says about it."""
    prometheus.wait("empty_ratio")
    check = replace(ROOM, query=query, expect="result.all(r, true)")

    assert measure(prometheus.url, check).verdict is Verdict.INCONCLUSIVE


def test_samples_that_are_too_old_are_inconclusive(prometheus: Prometheus) -> None:
    """Prometheus itself gives a sample of five minutes ago as if it were of now."""
    prometheus.show("disk_used_ratio 0.5\nslow_ratio 0.1 " + str(int((time.time() - 100) * 1000)) + "\n")
    prometheus.wait("slow_ratio")
    check = replace(ROOM, query="slow_ratio", max_age_s=60)

    sample = measure(prometheus.url, check)

    assert sample.verdict is Verdict.INCONCLUSIVE
    assert sample.why.startswith("samples of slow_ratio are ")
    assert measure(prometheus.url, replace(check, max_age_s=600)).verdict is Verdict.HELD


def test_what_was_sampled_before_the_change_says_nothing_about_it(prometheus: Prometheus) -> None:
    """The next scrape is waited for; when there is none in time, there is no data since the change."""
    changed = replace(FACTS, changed_at=datetime.now(UTC))

    waited = kinds(Directory(sites={}), prometheus.url)["promql"](ROOM, changed, no_probe)
    assert waited.verdict is Verdict.HELD

    future = replace(FACTS, changed_at=datetime.now(UTC) + timedelta(hours=1))
    never = kinds(Directory(sites={}), prometheus.url)["promql"](replace(ROOM, timeout_s=1), future, no_probe)
    assert (never.verdict, "before the change" in never.why) == (Verdict.INCONCLUSIVE, True)


def show(prometheus: Prometheus, value: float) -> datetime:
    """Until Prometheus has scraped it; returns when."""
    prometheus.show(f"disk_used_ratio {value}\n")
    prometheus.wait(f"disk_used_ratio == {value}")
    return datetime.now(UTC)


def asked(prometheus: Prometheus, check: PromqlCheck, begun: datetime, changed: datetime) -> Sample:
    facts = replace(FACTS, begun_at=begun, changed_at=changed)
    return kinds(Directory(sites={}), prometheus.url)["promql"](check, facts, no_probe)


LESS = replace(ROOM, expect="result[0] < before[0]", timeout_s=10)


def test_what_was_before_the_change_is_known_and_kept(prometheus: Prometheus) -> None:
    begun = show(prometheus, 0.9)
    changed = show(prometheus, 0.6)

    better = asked(prometheus, LESS, begun, changed)
    assert (better.verdict, better.why) == (
        Verdict.HELD,
        "result[0] < before[0], with result = [0.6], before = [0.9]",
    )
    assert isinstance(better.seen, dict)
    assert better.seen["before"] == [0.9]

    as_bad = show(prometheus, 0.9)
    assert asked(prometheus, LESS, begun, as_bad).verdict is Verdict.FAILED


def test_without_data_from_before_nothing_can_be_compared(prometheus: Prometheus) -> None:
    changed = show(prometheus, 0.6)

    sample = asked(prometheus, LESS, changed - timedelta(hours=2), changed)
    assert (sample.verdict, sample.no_data) == (Verdict.INCONCLUSIVE, True)
    assert measure(prometheus.url, LESS).verdict is Verdict.INCONCLUSIVE, "nobody knows when it began"


STAYS = replace(ROOM, expect="result[0] < 0.8", for_s=3, timeout_s=15)


def test_a_window_is_looked_at_from_its_beginning_and_only_after_the_change(prometheus: Prometheus) -> None:
    """The window of three seconds is waited for: its first second is still from before the change."""
    begun = show(prometheus, 0.9)
    changed = show(prometheus, 0.5)

    held = asked(prometheus, STAYS, begun, changed)
    assert (held.verdict, held.why[:9]) == (Verdict.HELD, "for 3 s r")
    assert isinstance(held.seen, dict)
    assert len(json.dumps(held.seen["steps"])) > 50
    assert (datetime.now(UTC) - changed).total_seconds() > 3

    in_a_hurry = asked(prometheus, replace(STAYS, timeout_s=1), begun, datetime.now(UTC))
    assert (in_a_hurry.verdict, "before the change" in in_a_hurry.why) == (Verdict.INCONCLUSIVE, True)


def test_a_moment_that_was_bad_fails_though_it_is_good_now(prometheus: Prometheus) -> None:
    changed = show(prometheus, 0.5)
    show(prometheus, 0.9)
    show(prometheus, 0.5)
    good_now = asked(prometheus, ROOM, changed, changed)
    over_time = asked(prometheus, replace(STAYS, for_s=30), changed - timedelta(hours=1), changed - timedelta(hours=1))

    assert good_now.verdict is Verdict.HELD
    assert over_time.verdict is not Verdict.HELD


def test_a_gap_in_the_window_is_no_data(prometheus: Prometheus) -> None:
    show(prometheus, 0.5)
    prometheus.fail_to_scrape()
    prometheus.wait("disk_used_ratio", lambda series: not series)
    show(prometheus, 0.5)
    sample = measure(prometheus.url, replace(STAYS, for_s=4, timeout_s=5, expect="result[0] < 2.0"))

    assert (sample.verdict, sample.no_data) == (Verdict.INCONCLUSIVE, True)


def test_a_target_that_cannot_be_scraped_is_inconclusive(prometheus: Prometheus) -> None:
    prometheus.fail_to_scrape()
    prometheus.wait("disk_used_ratio", lambda series: not series)

    assert measure(prometheus.url, ROOM).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("query", ["sum(", "disk_used_ratio[1m]", "nonsense(disk_used_ratio)"])
def test_a_wrong_query_is_an_error(prometheus: Prometheus, query: str) -> None:
    assert measure(prometheus.url, replace(ROOM, query=query)).verdict is Verdict.ERROR


def test_an_input_cannot_leave_its_quotes(prometheus: Prometheus) -> None:
    """Unescaped, this input would choose a series by another label."""
    check = replace(ROOM, query='disk_used_ratio{path="{{ inputs.path }}"}', expect="result.all(r, true)")

    assert measure(prometheus.url, check).verdict is Verdict.INCONCLUSIVE


def test_a_prometheus_that_is_down_is_inconclusive() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        sample = measure(url, ROOM)

    assert (sample.verdict, sample.why[:26]) == (Verdict.INCONCLUSIVE, "Prometheus did not answer:")


def test_a_prometheus_that_hangs_is_inconclusive_in_time(pages: Pages) -> None:
    begun = time.monotonic()

    assert measure(pages.url, replace(ROOM, timeout_s=1)).verdict is Verdict.INCONCLUSIVE
    assert time.monotonic() - begun < 5


GOOD = {"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1, "0.5"]}]}}
API = "/api/v1/query"


def answer(pages: Pages, body: object, status: int = 200) -> Sample:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    pages.answers[API] = (status, text)
    return measure(pages.url, ROOM)


def test_the_stand_in_would_hold(pages: Pages) -> None:
    """So that the tests below are about what they change."""
    assert answer(pages, GOOD).verdict is Verdict.HELD


@pytest.mark.parametrize("status", [301, 401, 404, 429, 500, 503])
def test_another_status_is_inconclusive(pages: Pages, status: int) -> None:
    pages.headers["Location"] = f"{pages.url}{API}?redirected"

    assert answer(pages, GOOD, status).verdict is Verdict.INCONCLUSIVE
    assert not [path for path in pages.asked if "redirected" in path]


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b"null", {"status": "error"}, {**GOOD, "warnings": ["half"]}])
def test_half_an_answer_is_inconclusive(pages: Pages, body: object) -> None:
    assert answer(pages, body).verdict is Verdict.INCONCLUSIVE


def data(kind: object, result: object) -> dict[str, object]:
    return {"status": "success", "data": {"resultType": kind, "result": result}}


@pytest.mark.parametrize(
    "body",
    [
        data("matrix", []),
        data("string", [1, "0.5"]),
        data(None, None),
        data("vector", [{"metric": {}, "value": [1]}]),
        data("vector", [{"metric": {}}]),
        data("vector", ["0.5"]),
        data("vector", [{"metric": {}, "value": [1, "many"]}]),
        data("vector", [{"metric": {}, "value": [1, "0.5"]}] * 101),
        b'{"padding": "' + b"x" * 300_000 + b'"}',
    ],
    ids=["matrix", "string", "null", "short", "valueless", "text", "no number", "many", "huge"],
)
def test_an_answer_that_is_not_documented_is_an_error(pages: Pages, body: object) -> None:
    assert answer(pages, body).verdict is Verdict.ERROR
