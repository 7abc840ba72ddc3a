"""What samples keep."""

from __future__ import annotations

import pytest

from engine.domain.gate import Json
from engine.gates import evidence


@pytest.mark.parametrize("value", [None, True, 3, "text é", ["a"], {"a": {"b": [1.5]}}])
def test_small_values_are_kept_verbatim(value: Json) -> None:
    assert evidence.bounded(value) == value


def test_large_values_become_the_beginning_of_their_text() -> None:
    kept = evidence.bounded(["x" * 10_000])

    assert isinstance(kept, str)
    assert kept.startswith('["xxx')
    assert len(kept) < evidence.MAX_TEXT + 50


@pytest.mark.parametrize("value", ["a\x00b", "\ud800", {"k": "\x00"}, ["\udfff"], [1e999], {"k": float("nan")}])
def test_what_a_database_would_refuse_is_replaced(value: Json) -> None:
    """Postgres refuses NUL, every encoder a lone surrogate, the chain an infinity: none of them may block a verdict."""
    kept = evidence.bounded(value)

    assert isinstance(kept, str)
    assert kept.encode()
    assert "\x00" not in kept


def test_text_is_cut_with_a_note() -> None:
    assert evidence.text("abcdef", 4) == "abcd… (2 more characters)"
