"""Webhook bodies of Alertmanager, written by us after the vendor's description of its fields.

Fields and their meaning: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
Types in Go: https://pkg.go.dev/github.com/prometheus/alertmanager/template#Data
"""

from __future__ import annotations

import json
from typing import Any

DISK_LABELS = {
    "alertname": "DiskAlmostFull",
    "instance": "production",
    "mountpoint": "/srv/checkout",
    "service": "checkout",
    "severity": "critical",
}


def alert(**changes: Any) -> dict[str, Any]:
    """One firing alert; a change to None leaves the field out."""
    fields: dict[str, Any] = {
        "status": "firing",
        "labels": DISK_LABELS,
        "annotations": {
            "summary": "/srv/checkout on production is 93 % full",
            "description": "Less than a tenth of the disk is free.",
            "runbook_url": "https://runbooks.example.org/disk-full",
        },
        "startsAt": "2026-03-01T10:15:30.123456789Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example.org:9090/graph?g0.expr=disk_used+%3E+0.9&g0.tab=1",
        "fingerprint": "6d8ee8ee7ce2a88f",
    }
    return {name: value for name, value in (fields | changes).items() if value is not None}


def message(*alerts: dict[str, Any], **changes: Any) -> bytes:
    """A whole body of version 4 around the alerts (one firing alert when none are given)."""
    fields: dict[str, Any] = {
        "version": "4",
        "groupKey": '{}/{team="shop"}:{alertname="DiskAlmostFull", service="checkout"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "signalbox",
        "groupLabels": {"alertname": "DiskAlmostFull", "service": "checkout"},
        "commonLabels": DISK_LABELS,
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example.org:9093",
        "alerts": list(alerts) or [alert()],
    }
    return json.dumps({name: value for name, value in (fields | changes).items() if value is not None}).encode()
