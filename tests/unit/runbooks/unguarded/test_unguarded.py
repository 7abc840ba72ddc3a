"""Each of these runbooks is refused, by the rule that names its way."""

from __future__ import annotations

import pytest

from tests.unit.runbooks.judged import rules, said
from tests.unit.runbooks.unguarded.ways import WAYS, Way

AT_LEAST = 25


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way.rule} {way.sentence}")
def test_a_way_around_the_guards_is_refused_by_the_rule_that_names_it(way: Way) -> None:
    problems = said(way.example.text, way.example.folder)

    assert way.rule in rules(problems), problems or "it loaded"


def test_there_are_enough_ways_and_each_is_its_own() -> None:
    assert len({way.sentence for way in WAYS}) == len(WAYS) >= AT_LEAST
    assert len({(way.example.text, *sorted(way.example.folder.items())) for way in WAYS}) == len(WAYS)
