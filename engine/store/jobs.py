"""Wake-ups as jobs of Procrastinate, inserted by the transaction that made the run runnable (Postgres only).

An app of its own with a synchronous connector that is never opened: the worker's app is open asynchronously and cannot
send through a plain connection. No `lock=`: who may drive is said by the claim, and a locked chain would wait for the
poll. https://procrastinate.readthedocs.io/en/stable/howto/advanced/sync_defer.html
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any

import procrastinate
from procrastinate.types import JSONDict
from sqlalchemy.orm import Session

from engine.store.wakeups import WakeUp

TASK = "wake"
SENDER = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo="never opened"))


def send(session: Session, wake_ups: Collection[WakeUp]) -> None:
    """Insert one job for each wake-up, in the transaction of `session`."""
    connection: Any = session.connection().connection.driver_connection
    alike: dict[tuple[str, int], list[str]] = defaultdict(list)
    for each in wake_ups:
        alike[each.pool, each.priority].append(each.run_id)
    for (pool, priority), run_ids in alike.items():
        deferrer = SENDER.configure_task(name=TASK, queue=pool, priority=priority, connection=connection)
        arguments: list[JSONDict] = [{"run_id": run_id} for run_id in run_ids]
        deferrer.batch_defer(*arguments)
