"""What a plan would change, out of `terraform show -json`. Used on the host by the runner, in the VM by `inside`.

The document that `reduced` makes (`doc` of a policy) has no sensitive value in it and nothing that stays as it is:

    terraform_version, unchanged (how many resources), resource_changes, resource_drift, output_changes (by name)

A resource change: address, type, name, provider_name, actions, before, after, changed (names of attributes), unknown
(names of those that are known only after the apply), and mode, module_address, index, deposed, action_reason,
previous_address where Terraform says them. Standard library only: this file runs in the VM.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

SENSITIVE = "***"
""" Too short to be taken for a secret itself, where it stands after a word like `password`. """
UNKNOWN = "(known after apply)"
STAYS = (["no-op"], ["read"])
_SAID = ("mode", "module_address", "index", "deposed", "action_reason", "previous_address")


def reduced(shown: object) -> dict[str, Any]:
    """The document of a plan; raises ValueError for what is no whole plan of a format that is known here."""
    if not isinstance(shown, dict) or not str(shown.get("format_version", "")).startswith("1."):
        raise ValueError("it is no plan as `terraform show -json` prints it (format 1)")
    if shown.get("errored") or shown.get("deferred_changes") or shown.get("complete") is False:
        raise ValueError("the plan is not whole: an error or a deferred change is in it")
    try:
        rows = [_change(row) for row in shown.get("resource_changes", [])]
        changes = [row for row in rows if row["actions"] not in STAYS]
        return {
            "terraform_version": str(shown["terraform_version"]),
            "unchanged": len(rows) - len(changes),
            "resource_changes": sorted(changes, key=_order),
            "resource_drift": sorted(map(_change, shown.get("resource_drift", [])), key=_order),
            "output_changes": dict(_outputs(shown.get("output_changes") or {})),
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the plan has not the shape of one: {error!r}") from None


def _order(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["address"], str(row.get("deposed", ""))


def _change(row: Mapping[str, Any]) -> dict[str, Any]:
    change = row["change"]
    before, after, unknown = change.get("before"), change.get("after"), change.get("after_unknown") or {}
    names = set(before or {}) | set(after or {}) | set(unknown)
    later = sorted(name for name in names if _any(unknown.get(name)))
    return {
        **{name: str(row[name]) for name in ("address", "type", "name", "provider_name")},
        **{name: row[name] for name in _SAID if row.get(name) is not None},
        "actions": _words(change["actions"]),
        "before": _masked(before, change.get("before_sensitive")),
        "after": _masked(after, change.get("after_sensitive")),
        "changed": sorted(n for n in names if n in later or (before or {}).get(n) != (after or {}).get(n)),
        "unknown": later,
    }


def _words(actions: Iterable[Any]) -> list[str]:
    return [str(action) for action in actions]


def _any(marks: object) -> bool:
    """Whether anything is marked, at whatever depth."""
    if isinstance(marks, dict):
        return any(map(_any, marks.values()))
    return any(map(_any, marks)) if isinstance(marks, list) else bool(marks)


def _outputs(outputs: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, change in sorted(outputs.items()):
        if change["actions"] not in STAYS:
            yield (
                name,
                {
                    "actions": _words(change["actions"]),
                    "before": _masked(change.get("before"), change.get("before_sensitive")),
                    "after": _masked(change.get("after"), change.get("after_sensitive")),
                },
            )


def _masked(value: Any, marks: object) -> Any:
    """The value without what is marked. A mark that does not fit the value hides all of it."""
    if marks is None or marks is False or marks in ({}, []) or value is None:
        return value
    if isinstance(marks, dict) and isinstance(value, dict):
        return {name: _masked(one, marks.get(name)) for name, one in value.items()}
    if isinstance(marks, list) and isinstance(value, list) and len(marks) <= len(value):
        padded = [*marks, *[None] * (len(value) - len(marks))]
        return [_masked(one, mark) for one, mark in zip(value, padded, strict=True)]
    return SENSITIVE


def shape(document: Mapping[str, Any], target: Mapping[str, str]) -> list[dict[str, Any]]:
    """What is the same wherever a change is made: addresses, actions, and what becomes of each attribute.

    `target`: its name and host; where they stand in a value, a placeholder stands instead.
    """
    return [
        {
            **{name: row[name] for name in ("address", "type", "provider_name", "actions")},
            "changed": {name: _neutral(_pair(row, name), target) for name in row["changed"]},
        }
        for row in document["resource_changes"]
    ]


def _pair(row: Mapping[str, Any], name: str) -> list[Any]:
    after = UNKNOWN if name in row["unknown"] else (row["after"] or {}).get(name)
    return [(row["before"] or {}).get(name), after]


def _neutral(value: Any, target: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _neutral(one, target) for key, one in value.items()}
    if isinstance(value, list):
        return [_neutral(one, target) for one in value]
    if not isinstance(value, str):
        return value
    value = value.replace(target["host"], "{{ target.host }}")
    return re.sub(rf"(?<![A-Za-z0-9]){re.escape(target['name'])}(?![A-Za-z0-9])", "{{ target.name }}", value)


def lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Changes of resources for people, a line each attribute."""
    for row in rows:
        yield f"{' then '.join(row['actions'])} {row['address']}"
        for name in row["changed"]:
            before, after = _pair(row, name)
            yield f"    {name}: {_short(before)} -> {_short(after)}"


def _short(value: Any) -> str:
    text = value if value in (SENSITIVE, UNKNOWN) else json.dumps(value, sort_keys=True, ensure_ascii=False)
    return text if len(text) <= 120 else text[:117] + "..."
