"""service-down: production's `orders` was given a configuration with which it cannot start."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from demo.world import monitoring
from demo.world.service import Service
from demo.world.target import PRODUCTION, Target
from engine.domain.errors import Unavailable
from tests.library.case import Bad, Case, Edit

GOOD = b'{"currency": "EUR", "prices": "prices.csv", "workers": 4}\n'
BROKEN = b'{"currency": "EUR", "prices": "prices.csv", "workers": 0}\n'
RUN = b"#!/bin/sh\n# Runs `orders`.\nexec /usr/bin/python3 -IS /run/world/orders.py\n"


def data(env: str) -> Mapping[str, bytes]:
    """Staging works; production last did so with another configuration than it has."""
    return {
        "orders/orders.json": BROKEN if env == PRODUCTION else GOOD,
        "orders/orders.last-good.json": GOOD,
        "orders/data/prices.csv": b"sku,price\nSKU-20817,1999\n",
        "orders/log/app.log": b"2026-01-01T00:00:00Z INFO started\n",
    }


def gone(target: Target) -> bool:
    """It answers, and with what it was configured before."""
    try:
        answer = json.loads(monitoring.get(f"{target.http_url}/healthz"))
    except Unavailable:
        return False
    config = target.run("verifier", "cat /srv/orders/orders.json").stdout
    return bool(answer == {"ok": True, "currency": "EUR", "workers": 4} and json.loads(config) == json.loads(GOOD))


def _otherwise(value: str) -> tuple[Edit, ...]:
    """The fix writes one value of the last good configuration otherwise."""
    return (Edit(path="service-down/fix.py", old="    return good\n", new=f"    return {{**good, {value}}}\n"),)


CASE = Case(
    runbook="service-down",
    broke="a configuration with no workers: the service ends at its start",
    service=Service(
        name="orders",
        settings=lambda _env: {},
        data=data,
        files={"service.sh": RUN, "orders.py": Path(__file__).with_name("services").joinpath("orders.py").read_bytes()},
        broken=frozenset({PRODUCTION}),
        watched=False,
    ),
    labels={"alertname": "OrdersDown", "severity": "critical", "env": "production"},
    gone=gone,
    bad=(
        Bad(
            name="the service starts, and answers 500",
            edits=_otherwise('"prices": "old.csv"'),
            gate="tests-pass",
            check="answers",
        ),
        Bad(
            name="the service starts with another currency",
            edits=_otherwise('"currency": "USD"'),
            gate="tests-pass",
            check="answers",
        ),
    ),
)
