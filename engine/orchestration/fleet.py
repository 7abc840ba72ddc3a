"""Wake-ups between machines: jobs of Procrastinate on the same Postgres, inserted with the change that they speak of.

Every quirk of Procrastinate 3.10 that was measured has its cure here: it polls often (a job deferred while another is
fetched waits for the poll), one periodic task is registered (without any, a dead LISTEN is never noticed), drives run
in threads of our own (its pool is as small as the machine), jobs left `doing` by the dead are failed and never retried,
and the whole worker is begun again after whatever ended it. Liveness is our own row, never its heartbeat.
https://procrastinate.readthedocs.io/en/stable/
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import procrastinate
import sqlalchemy as sa
import structlog
from procrastinate import jobs

from engine.store.jobs import TASK

log = structlog.get_logger()

POLL_S = 0.2
STALLED_S = 60
AGAIN_S = 1.0


@dataclass(slots=True)
class Fleet:
    """Takes the wake-ups of one pool. Any number of processes may, on any number of machines."""

    url: str
    pool: str
    concurrency: int
    name: str
    drive: Callable[[str], None]
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: ThreadPoolExecutor | None = None
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _serving: asyncio.Task[None] | None = None
    _server: threading.Thread | None = None

    def start(self) -> None:
        """Begin to take wake-ups, in a thread."""
        self._threads = ThreadPoolExecutor(self.concurrency, thread_name_prefix="run")
        self._server = threading.Thread(target=self._serve_for_ever, name="wake-ups", daemon=True)
        self._server.start()

    def stop(self, timeout_s: float) -> None:
        """See `Carrier.stop`."""
        self._stopping.set()
        with contextlib.suppress(RuntimeError):  # the loop may have ended already
            self._loop.call_soon_threadsafe(self._cancel)
        if self._server is not None:
            self._server.join(timeout_s)
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _cancel(self) -> None:
        if self._serving is not None:
            self._serving.cancel()

    def _serve_for_ever(self) -> None:
        """Until stopped: a database that goes away takes the worker with it, and comes back."""
        asyncio.set_event_loop(self._loop)
        while not self._stopping.is_set():
            try:
                self._loop.run_until_complete(self._serve())
            except Exception as error:  # noqa: BLE001 - the rim of a thread: whatever ended it, wake-ups are taken again
                log.warning("wake-ups are not taken; trying again", why=f"{type(error).__name__}: {error}"[:300])
            self._stopping.wait(AGAIN_S)
        self._loop.close()

    async def _serve(self) -> None:
        app = self._app()
        async with app.open_async():
            self._serving = asyncio.ensure_future(
                app.run_worker_async(
                    queues=[self.pool],
                    concurrency=self.concurrency + 1,  # one for the sweep
                    name=self.name,
                    fetch_job_polling_interval=POLL_S,
                    delete_jobs=jobs.DeleteJobCondition.ALWAYS,
                    install_signal_handlers=False,
                )
            )
            if self._stopping.is_set():
                self._serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._serving

    def _app(self) -> procrastinate.App:
        conninfo = sa.engine.make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)
        app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=conninfo, min_size=1, max_size=4))

        async def wake(run_id: str) -> None:
            await self._loop.run_in_executor(self._threads, self.drive, run_id)

        async def sweep(timestamp: int) -> None:
            del timestamp
            for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_S):
                await app.job_manager.finish_job(job, status=jobs.Status.FAILED, delete_job=True)

        app.task(name=TASK, queue=self.pool)(wake)
        swept = app.task(name="sweep", queue=self.pool, queueing_lock=f"sweep:{self.pool}")(sweep)
        app.periodic(cron="* * * * *", periodic_id=self.pool)(swept)
        return app
