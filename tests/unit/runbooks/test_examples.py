"""The examples in the rules are true, and docs/lint.md shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.domain.errors import BadInput
from engine.runbooks import rulebook, skeleton
from engine.runbooks.lint import RULES
from engine.runbooks.rule import Edit, Rule
from tests.unit.runbooks.judged import rules, said

PAGE = Path(__file__).parents[3] / "docs" / "lint.md"


def test_the_skeleton_keeps_every_rule() -> None:
    assert said(skeleton.TEXT, skeleton.FILES) == []
    assert said(skeleton.text("queue-stuck", "x.json"), skeleton.FILES) == []


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_bad_example_is_refused_by_this_rule_alone(rule: Rule) -> None:
    problems = said(rule.bad.text, rule.bad.folder)

    assert rules(problems) == {rule.id}, problems


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_good_example_is_clean_and_is_not_just_the_skeleton(rule: Rule) -> None:
    assert said(rule.good.text, rule.good.folder) == []
    assert (rule.good.text, rule.good.folder) != (skeleton.TEXT, dict(skeleton.FILES))


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_rule_has_its_paragraph(rule: Rule) -> None:
    assert len(rule.text) > 60
    assert rule.text.endswith(".")
    assert len(rule.title.split()) > 1


def test_docs_lint_md_is_in_step() -> None:
    assert PAGE.read_text() == rulebook.page(), "signalbox runbook lint --rules > docs/lint.md"


def test_a_rule_is_explained_and_an_unknown_one_is_told_with_the_nearest() -> None:
    assert rulebook.explain("l003").startswith("## L003 gates are independent\n")
    with pytest.raises(BadInput, match="there is no rule L099") as refused:
        rulebook.explain("L099")
    assert "signalbox runbook lint --rules" in refused.value.remedy


def test_an_edit_that_is_not_unique_is_no_example() -> None:
    with pytest.raises(ValueError, match="exactly once"):
        Edit("tested", "id:", "x").apply(skeleton.TEXT)
    with pytest.raises(ValueError, match="no step nowhere"):
        Edit("nowhere", "id:", "x").apply(skeleton.TEXT)
