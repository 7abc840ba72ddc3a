"""The table of kinds."""

from __future__ import annotations

import typing

import pytest

from engine.domain.directory import Directory, Site
from engine.domain.gate import VARIABLES, Check, DigestCheck, HttpCheck, PromqlCheck
from engine.domain.states import Verdict
from engine.gates import kinds
from tests.unit.gates.fakes import NoProbe, facts

DIRECTORY = Directory(sites={"a.demo": Site(name="a.demo")})
PROMQL = PromqlCheck(id="q", target="a", query="up", expect="result[0] == 1")
HTTP = HttpCheck(id="h", target="a", path="/", expect="status == 200")


def test_every_type_of_check_has_a_kind() -> None:
    types = {member.__dataclass_fields__["type"].default for member in typing.get_args(Check)}

    assert set(kinds(DIRECTORY, "")) == types - {"quorum"}, "a quorum is of others, and measured with the gate"
    assert set(VARIABLES) == {
        type_
        for type_, one in ((member.__dataclass_fields__["type"].default, member) for member in typing.get_args(Check))
        if "expect" in one.__dataclass_fields__ or type_ == "policy"
    }


def test_a_target_without_a_site_is_an_error() -> None:
    sample = kinds(DIRECTORY, "")["http"](HTTP, facts(hosts={"a": "b.demo"}), NoProbe())

    assert sample.verdict is Verdict.ERROR
    assert "no site named 'b.demo'" in sample.why


def test_a_site_without_a_url_is_an_error() -> None:
    sample = kinds(DIRECTORY, "")["http"](HTTP, facts(hosts={"a": "a.demo"}), NoProbe())

    assert sample.why == "site a.demo has no http_url. add it to the file SIGNALBOX_SITES"


def test_no_configured_prometheus_is_an_error() -> None:
    assert kinds(DIRECTORY, "")["promql"](PROMQL, facts(), NoProbe()).verdict is Verdict.ERROR


@pytest.mark.parametrize("query", ["vector(1)", "1", 'label_replace(vector(1), "a", "b", "", "")'])
def test_a_query_that_reads_no_series_is_an_error(query: str) -> None:
    check = PromqlCheck(id="q", target="a", query=query, expect="result[0] == 1")
    sample = kinds(DIRECTORY, "http://127.0.0.1:1")["promql"](check, facts(), NoProbe())

    assert sample.why == "the query reads no series, so it measures nothing"


def test_kinds_refuse_checks_that_are_not_theirs() -> None:
    other = DigestCheck(id="d", of="a", equals="b")
    table = kinds(DIRECTORY, "http://127.0.0.1:1")

    assert [table[name](other, facts(), NoProbe()).verdict for name in ("http", "promql")] == [Verdict.ERROR] * 2
