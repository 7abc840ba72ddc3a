"""What a plan would change, out of what `terraform show -json` prints: nothing sensitive, nothing half."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from engine.runtime.runners.terraform import changes

STAGING = {"name": "staging", "host": "db.staging.example"}
PRODUCTION = {"name": "production", "host": "db.production.example"}


def shown(target: dict[str, str] = STAGING, **change: Any) -> dict[str, Any]:
    """A plan with one update, as Terraform prints it."""
    before = {"name": f"log-{target['name']}", "url": f"https://{target['host']}/log", "size": 40, "key": "old-secret"}
    row: dict[str, Any] = {
        "address": "volume.log",
        "mode": "managed",
        "type": "volume",
        "name": "log",
        "provider_name": "example.test/x/volumes",
        "change": {
            "actions": ["update"],
            "before": before,
            "after": before | {"size": 60, "key": "new-secret"},
            "after_unknown": {"id": True},
            "before_sensitive": {"key": True},
            "after_sensitive": {"key": True},
        }
        | change,
    }
    still = copy.deepcopy(row) | {"address": "volume.other"}
    still["change"]["actions"] = ["no-op"]
    return {
        "format_version": "1.2",
        "terraform_version": "1.11.4",
        "complete": True,
        "errored": False,
        "resource_changes": [row, still],
        "variables": {"key": {"value": "new-secret"}},
        "prior_state": {"values": {"key": "old-secret"}},
    }


def test_what_stays_is_counted_and_what_changes_is_named() -> None:
    document = changes.reduced(shown())

    assert document["unchanged"] == 1
    assert document["resource_drift"] == []
    assert [row["address"] for row in document["resource_changes"]] == ["volume.log"]
    assert document["resource_changes"][0]["changed"] == ["id", "key", "size"]
    assert document["resource_changes"][0]["unknown"] == ["id"]


def test_nothing_sensitive_is_left_and_that_it_changed_is() -> None:
    document = changes.reduced(shown())

    assert "secret" not in str(document).replace(changes.SENSITIVE, "")
    assert list(changes.lines(document["resource_changes"])) == [
        "update volume.log",
        "    id: null -> (known after apply)",
        "    key: *** -> ***",
        "    size: 40 -> 60",
    ]


@pytest.mark.parametrize(
    ("marks", "left"),
    [
        (True, changes.SENSITIVE),
        ({"b": True}, {"a": 1, "b": changes.SENSITIVE}),
        ({"b": [False, True]}, {"a": 1, "b": [2, changes.SENSITIVE]}),
        ({"b": [True, False, True]}, {"a": 1, "b": changes.SENSITIVE}),  # marks that do not fit hide all
        ([True], changes.SENSITIVE),
        (False, {"a": 1, "b": [2, 3]}),
        ({}, {"a": 1, "b": [2, 3]}),
    ],
)
def test_marks_of_any_depth_hide_what_they_mark(marks: object, left: object) -> None:
    row = shown(after={"x": {"a": 1, "b": [2, 3]}}, after_sensitive={"x": marks}, before={}, after_unknown={})

    assert changes.reduced(row)["resource_changes"][0]["after"] == {"x": left}


def test_outputs_that_change_are_told_without_what_is_sensitive() -> None:
    outputs = {
        "url": {
            "actions": ["update"],
            "before": "a",
            "after": "b",
            "before_sensitive": False,
            "after_sensitive": False,
        },
        "key": {
            "actions": ["create"],
            "before": None,
            "after": "s",
            "before_sensitive": False,
            "after_sensitive": True,
        },
        "old": {"actions": ["no-op"], "before": "z", "after": "z"},
    }
    found = changes.reduced(shown() | {"output_changes": outputs})["output_changes"]

    assert found == {
        "key": {"actions": ["create"], "before": None, "after": changes.SENSITIVE},
        "url": {"actions": ["update"], "before": "a", "after": "b"},
    }


@pytest.mark.parametrize(
    "spoilt",
    [
        {"format_version": "2.0"},
        {"format_version": None},
        {"errored": True},
        {"complete": False},
        {"deferred_changes": [{"reason": "provider_config_unknown"}]},
        {"resource_changes": [{"address": "volume.log"}]},
        {"resource_changes": "volume.log"},
        {"terraform_version": ...},
    ],
)
def test_what_is_no_whole_plan_is_refused(spoilt: dict[str, Any]) -> None:
    plan = {key: value for key, value in (shown() | spoilt).items() if value is not ...}

    with pytest.raises(ValueError, match="plan"):
        changes.reduced(plan)


@pytest.mark.parametrize("plan", [None, [], "1.2", 7, {}])
def test_what_is_no_plan_at_all_is_refused(plan: object) -> None:
    with pytest.raises(ValueError, match="no plan"):
        changes.reduced(plan)


@pytest.mark.parametrize("odd", [{"actions": [1, None]}, {"actions": "update"}, {"actions": [["update"]]}])
def test_what_is_kept_can_always_be_told(odd: dict[str, Any]) -> None:
    """It comes out of a VM: whatever is taken for a change is one that can be put into words."""
    document = changes.reduced(shown(**odd))

    assert list(changes.lines(document["resource_changes"]))
    assert changes.shape(document, STAGING)


def test_one_change_has_one_shape_on_every_target() -> None:
    """Whatever stands for the target is a placeholder there; what stays as it is (an id, an address) is not in it."""
    row: dict[str, Any] = {
        "after": {"url": "https://db.staging.example/x"},
        "before": None,
        "after_unknown": {},
        "actions": ["create"],
    }
    other: dict[str, Any] = row | {"after": {"url": "https://db.production.example/x"}}
    staging = changes.shape(changes.reduced(shown(STAGING, **row)), STAGING)
    production = changes.shape(changes.reduced(shown(PRODUCTION, **other)), PRODUCTION)

    assert staging == production
    assert staging[0]["changed"] == {"url": [None, "https://{{ target.host }}/x"]}
    assert changes.shape(changes.reduced(shown(STAGING)), STAGING) == changes.shape(
        changes.reduced(shown(PRODUCTION)), PRODUCTION
    )


@pytest.mark.parametrize(
    "change",
    [
        {"actions": ["delete", "create"]},
        {"after": {"name": "log-staging", "url": "https://db.staging.example/log", "size": 61}},
        {"before": {"name": "log-staging", "url": "https://db.staging.example/log", "size": 41}},
        {"after_unknown": {}},
    ],
)
def test_another_change_has_another_shape(change: dict[str, Any]) -> None:
    usual, bent = (changes.shape(changes.reduced(shown(**one)), STAGING) for one in ({}, change))

    assert usual != bent


def test_a_name_is_replaced_as_a_word_only() -> None:
    """`staging` in `stagings` is no name of a target."""
    row: dict[str, Any] = {"after": {"a": "stagings", "b": "log-staging"}, "before": None, "after_unknown": {}}

    assert changes.shape(changes.reduced(shown(**row)), STAGING)[0]["changed"] == {
        "a": [None, "stagings"],
        "b": [None, "log-{{ target.name }}"],
    }
