"""What a real Alertmanager posts verifies, parses, and counts once however often it is repeated."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engine.domain.alert import AlertStatus, Severity
from engine.domain.errors import Unauthenticated
from engine.triggers.alertmanager import AlertmanagerTrigger
from tests.integration.triggers.conftest import TOKEN, Alertmanager, Post, statuses

TRIGGER = AlertmanagerTrigger((TOKEN,))


def disk_alert(**changes: Any) -> dict[str, Any]:
    return {
        "labels": {"alertname": "DiskAlmostFull", "service": "checkout", "severity": "page", "path": "/srv/é"},
        "annotations": {"summary": "the disk is\nalmost full", "runbook_url": "https://runbooks.example.org/disk"},
        "generatorURL": "http://prometheus.example.org:9090/graph?g0.expr=x+%3E+1",
    } | changes


def fires(post: Post) -> bool:
    return statuses(post) == ["firing"]


def resolves(post: Post) -> bool:
    return statuses(post) == ["resolved"]


def test_its_post_is_authenticated_and_reads_as_the_alert_that_went_in(alertmanager: Alertmanager) -> None:
    alertmanager.put(disk_alert())
    post = alertmanager.receiver.wait(fires)

    (alert,) = TRIGGER.parse(TRIGGER.verify(post.headers, post.body).body)

    assert (alert.name, alert.severity, alert.status) == ("DiskAlmostFull", Severity.CRITICAL, AlertStatus.FIRING)
    assert alert.title == "the disk is almost full"
    assert alert.labels["path"] == "/srv/é"
    assert alert.link == "http://prometheus.example.org:9090/graph?g0.expr=x+%3E+1"
    assert abs(alert.starts_at - datetime.now(UTC)) < timedelta(minutes=1)
    with pytest.raises(Unauthenticated):
        AlertmanagerTrigger(("another-token",)).verify(post.headers, post.body)


def test_its_fingerprint_is_the_one_that_we_compute(alertmanager: Alertmanager) -> None:
    alertmanager.put(disk_alert())
    post = alertmanager.receiver.wait(fires)

    (given,) = TRIGGER.parse(post.body)
    (computed,) = TRIGGER.parse(post.body.replace(b'"fingerprint"', b'"left_out"'))

    assert computed.fingerprint == given.fingerprint


def test_a_repeat_has_the_key_of_the_first_delivery(alertmanager: Alertmanager) -> None:
    alertmanager.put(disk_alert())
    first = alertmanager.receiver.wait(fires)

    again = alertmanager.receiver.wait(fires, after=1)

    one, other = TRIGGER.verify(first.headers, first.body), TRIGGER.verify(again.headers, again.body)
    assert (one.key, one.group) == (other.key, other.group)
    assert one.group


def test_its_resolve_is_the_same_episode_and_another_delivery(alertmanager: Alertmanager) -> None:
    alertmanager.put(disk_alert())
    first = alertmanager.receiver.wait(fires)
    alertmanager.put(disk_alert(endsAt=datetime.now(UTC).isoformat()))
    last = alertmanager.receiver.wait(resolves)

    (fired,), (resolved,) = TRIGGER.parse(first.body), TRIGGER.parse(last.body)

    assert (resolved.fingerprint, resolved.starts_at) == (fired.fingerprint, fired.starts_at)
    assert resolved.status is AlertStatus.RESOLVED
    assert resolved.ends_at is not None
    assert TRIGGER.verify(last.headers, last.body).key != TRIGGER.verify(first.headers, first.body).key


def test_a_lapsed_alert_that_comes_back_looks_like_its_first_delivery_so_a_delivery_names_its_group(
    alertmanager: Alertmanager,
) -> None:
    """Prometheus was cut off, the alert lapsed, the old alert comes again: only the resolve between them tells."""
    started = datetime.now(UTC) - timedelta(minutes=5)
    alertmanager.put(
        disk_alert(startsAt=started.isoformat(), endsAt=(datetime.now(UTC) + timedelta(seconds=2)).isoformat())
    )
    first = alertmanager.receiver.wait(fires)
    alertmanager.receiver.wait(resolves)
    before = len(alertmanager.receiver.posts)

    alertmanager.put(disk_alert(startsAt=started.isoformat()))
    again = alertmanager.receiver.wait(fires, after=before)

    assert TRIGGER.verify(again.headers, again.body).key == TRIGGER.verify(first.headers, first.body).key
