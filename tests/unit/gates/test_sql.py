"""Gate kind `sql` without a database: what it makes of answers, where it goes, and how inputs become values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.domain.databases import DatabaseAccess
from engine.domain.directory import Address, Directory, Site
from engine.domain.errors import BadInput, Refused, Unavailable
from engine.domain.gate import INDEPENDENT, OFF_HOST, DigestCheck, NoData, Sample, SqlCheck
from engine.domain.states import Verdict
from engine.gates import sql
from tests.unit.gates.databases import Entering
from tests.unit.gates.fakes import NoProbe, facts

ADDRESS = Address(host="10.0.0.5", port=15432)
DIRECTORY = Directory(sites={"shop.demo": Site(name="shop.demo", ports={5432: ADDRESS}, database_ca="/ca.pem")})
ACCESS = DatabaseAccess(host="shop.demo", port=5432, name="shop", user="gate", password="hunter2")
CHECK = SqlCheck(
    id="room", target="production", query="SELECT count(*) AS n FROM pg_stat_activity", expect="rows[0].n < 80"
)
FACTS = facts(inputs={"unit": "x'; DROP TABLE t"}, hosts={"production": "shop.demo"})


def answering(*rows: str, check: SqlCheck = CHECK, asked: list[sql.Question] | None = None) -> Sample:
    def ask(question: sql.Question, /) -> tuple[str, ...]:
        if asked is not None:
            asked.append(question)
        return rows

    return sql.build(DIRECTORY, ask)(check, FACTS, Entering(ACCESS))


def raising(error: Exception) -> Sample:
    def ask(question: sql.Question, /) -> tuple[str, ...]:
        raise error

    return sql.build(DIRECTORY, ask)(CHECK, FACTS, Entering(ACCESS))


def test_rows_are_judged_and_kept() -> None:
    sample = answering('{"n": 5}')

    assert (sample.verdict, sample.why) == (Verdict.HELD, 'rows[0].n < 80, with rows = [{"n": 5}]')
    assert sample.seen == {"query": CHECK.query, "rows": [{"n": 5}]}
    assert answering('{"n": 80}').verdict is Verdict.FAILED


def test_no_rows_are_no_data() -> None:
    sample = answering(check=replace(CHECK, expect="size(rows) == 0"))

    assert (sample.verdict, sample.no_data) == (Verdict.INCONCLUSIVE, True)


@pytest.mark.parametrize("row", ["", "{", "[1]", "null", '{"n": 1, "n": 99}', '{"n": NaN}', '{"n": null}', "{}"])
def test_a_row_that_is_none_is_an_error(row: str) -> None:
    """Two columns of one name: nobody could tell which one was judged."""
    assert answering(row).verdict is Verdict.ERROR


def test_rows_that_are_too_many_to_judge_are_an_error() -> None:
    assert answering(*['{"n": 1}'] * 1001).verdict is Verdict.ERROR


def test_a_database_that_does_not_answer_fails_and_a_wrong_query_is_an_error() -> None:
    assert raising(sql.NoAnswer("connection refused")).verdict is Verdict.FAILED
    assert raising(sql.Wrong("no such column")).verdict is Verdict.ERROR


def test_it_goes_where_the_directory_says_with_the_verifiers_login() -> None:
    asked: list[sql.Question] = []
    answering('{"n": 5}', asked=asked)

    (question,) = asked
    assert (question.address, question.ca, question.name, question.user) == (ADDRESS, "/ca.pem", "shop", "gate")
    assert question.password == "hunter2"
    assert "hunter2" not in repr(question)


def test_our_own_ends_are_refused_however_they_are_spelt() -> None:
    """A site that leads to Signalbox's own database: no gate reads it, whoever wrote the directory."""
    own = replace(
        DIRECTORY,
        sites={"shop.demo": Site(name="shop.demo", ports={5432: Address(host="127.0.0.2", port=5432)})},
        forbidden=(Address(host="localhost", port=5432),),
    )

    def ask(question: sql.Question, /) -> tuple[str, ...]:
        raise AssertionError("nothing may be asked")

    sample = sql.build(own, ask)(CHECK, FACTS, Entering(ACCESS))
    assert (sample.verdict, "leads to Signalbox itself" in sample.why) == (Verdict.ERROR, True)


@pytest.mark.parametrize("access", [replace(ACCESS, host="elsewhere"), replace(ACCESS, port=5433)])
def test_a_way_that_the_directory_does_not_know_is_an_error(access: DatabaseAccess) -> None:
    assert sql.build(DIRECTORY)(CHECK, FACTS, Entering(access)).verdict is Verdict.ERROR


def test_a_verifier_without_a_way_in_never_holds() -> None:
    def measured(probe: Entering | NoProbe) -> Verdict:
        return sql.build(DIRECTORY, lambda _question: ('{"n": 5}',))(CHECK, FACTS, probe).verdict

    assert measured(NoProbe()) is Verdict.ERROR
    assert measured(Entering(ACCESS, refuses=Unavailable("Vault is down"))) is Verdict.INCONCLUSIVE
    assert measured(Entering(ACCESS, refuses=Refused("no policy"))) is Verdict.ERROR
    assert measured(Entering(ACCESS, refuses=BadInput("no `database`"))) is Verdict.ERROR
    assert measured(Entering(ACCESS, lives_on=Refused("a secret could not be proved dead"))) is Verdict.ERROR
    assert measured(Entering(ACCESS)) is Verdict.HELD


def test_an_input_is_a_value_and_never_sql() -> None:
    query, params = sql.bind(
        "SELECT 1 AS n FROM u WHERE u = {{ inputs.unit }} AND h = {{target.host}}", "production", FACTS
    )

    assert query == "SELECT 1 AS n FROM u WHERE u = $2 AND h = $3"
    assert params == ("x'; DROP TABLE t", "shop.demo")


def test_an_input_that_nobody_knows_is_an_error() -> None:
    assert (
        answering('{"n": 5}', check=replace(CHECK, query="SELECT {{ inputs.nothing }} AS n")).verdict is Verdict.ERROR
    )


def test_it_is_independent_and_from_off_the_host() -> None:
    assert SqlCheck in INDEPENDENT
    assert SqlCheck in OFF_HOST
    assert CHECK.no_data is NoData.INCONCLUSIVE
    assert sql.build(DIRECTORY)(DigestCheck(id="d", of="a", equals="b"), FACTS, NoProbe()).verdict is Verdict.ERROR
