"""Redaction within JSON: no secret is left, and it is JSON still."""

from __future__ import annotations

import json

from engine.agents.cleaning import cleaned
from engine.secrets.redact import Redactor


def _redactor() -> Redactor:
    redactor = Redactor()
    redactor.learn("db", "hunter2-hunter2")
    return redactor


def test_every_text_and_name_is_masked() -> None:
    """However deep."""
    value = cleaned({"a": [{"hunter2-hunter2": "x hunter2-hunter2 y"}], "n": 1, "none": None}, _redactor())

    assert value == {"a": [{"‹secret:db›": "x ‹secret:db› y"}], "n": 1, "none": None}


def test_arguments_that_came_as_text_stay_json() -> None:
    """A mask that ends within an escape would leave none."""
    args = json.dumps({"content": 'password=abcd"efg'})

    value = cleaned({"args": args}, _redactor())

    assert isinstance(value, dict)
    assert json.loads(str(value["args"])) == {"content": 'password=‹secret:assignment›"efg'}


def test_ids_of_providers_are_no_secrets() -> None:
    """An id that were masked would be every other id."""
    for known in ("toolu_01A09q90qw90lq917835lq9", "call_Xa9sdkfjLKJ23lkjsdf", "fc_68a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5"):
        assert cleaned(known, _redactor()) == known
