"""Whatever is sent, a body reads as alerts or is BadInput: never a crash, and never text that cannot be kept."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from engine.domain import digest
from engine.domain.errors import BadInput
from engine.triggers import untrusted
from engine.triggers.alertmanager import AlertmanagerTrigger
from tests.unit.triggers.bodies import alert, message

TRIGGER = AlertmanagerTrigger(("token",))
HEADERS = {"authorization": "Bearer token"}
WHOLE = message(alert(), alert(status="resolved", endsAt="2026-03-01T10:20:00Z", fingerprint="2"))

ODD: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        -1,
        10**30,
        1e308,
        "",
        "\x00",
        "😀" * 9000,
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59-23:59",
        [],
        {},
        [[]],
        {"": ""},
    ]
)
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def read(body: bytes) -> None:
    """Verify and parse as the engine does; everything that comes out can be encoded, stored and shown."""
    delivery = TRIGGER.verify(HEADERS, body)
    assert delivery.key.startswith("sha256:")
    try:
        alerts = TRIGGER.parse(delivery.body)
    except BadInput as error:
        str(error).encode()
        return
    for each in alerts:
        digest.of_value(json.loads(json.dumps(asdict(each), default=str)))
        assert each.starts_at.tzinfo is not None
        assert each.fingerprint
        assert each.group_key
        assert each.title
        assert "\x00" not in json.dumps(asdict(each), default=str, ensure_ascii=False)
        assert len(each.labels) <= untrusted.MAX_FIELDS
        assert len(each.title) <= untrusted.MAX_TITLE


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path into a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in items for place in places(inner, (*path, key)))]


PLACES = [place for place in places(json.loads(WHOLE)) if place]


@given(st.binary(max_size=300))
def test_random_bytes(body: bytes) -> None:
    read(body)


@given(ANYTHING)
def test_random_json(value: Any) -> None:
    read(json.dumps(value).encode())


@given(st.lists(st.tuples(st.sampled_from(PLACES), ODD | ANYTHING), min_size=1, max_size=4))
def test_a_valid_body_with_fields_replaced(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    value = copy.deepcopy(json.loads(WHOLE))
    for place, replacement in changes:
        parent = value
        try:
            for key in place[:-1]:
                parent = parent[key]
            parent[place[-1]] = copy.deepcopy(replacement)
        except (KeyError, IndexError, TypeError):  # an earlier change took this place away
            continue
    read(json.dumps(value).encode())


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 40), st.binary(max_size=8))
def test_a_valid_body_with_bytes_replaced(start: int, length: int, replacement: bytes) -> None:
    read(WHOLE[:start] + replacement + WHOLE[start + length :])


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=50), max_size=80))
def test_any_labels_and_annotations(fields: dict[str, str]) -> None:
    read(message(alert(labels=fields, annotations=fields, fingerprint=None)))
