"""Wake-ups between machines: jobs of Procrastinate on the same Postgres, inserted with the change that they speak of.

Every quirk of Procrastinate 3.10 that was measured has its cure here: it polls often (a job deferred while another is
fetched waits for the poll), one periodic task is registered (without any, a dead LISTEN is never noticed), drives run
in threads of our own (its pool is as small as the machine), jobs left `doing` by the dead are failed and never retried,
and the whole worker is begun again after whatever ended it, without waiting for the steps under way (it would wait
for their jobs, and take no other meanwhile). Liveness is our own row, never its heartbeat.
https://procrastinate.readthedocs.io/en/stable/
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import procrastinate
import sqlalchemy as sa
import structlog
from procrastinate import jobs

from engine.store.jobs import TASK
from engine.store.session import SILENT_CLIENT

log = structlog.get_logger()

POLL_S = 0.2
STALLED_S = 60
SWEPT_EVERY_S = 60.0
HARDLY_EVER = "0 0 29 2 *"
""" When the periodic task is due. It is there so that a dead LISTEN is noticed; a job of its own would take a slot. """
AGAIN_S = 1.0
ANSWERS_WITHIN_S = 3.0
ENDS_WITHIN_S = 0.5
""" How long its worker waits for its jobs when it ends. What they drive goes on in our threads. """


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
    _driving: set[Future[None]] = field(default_factory=set)
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
        deadline = time.monotonic() + timeout_s
        self._stopping.set()
        with contextlib.suppress(RuntimeError):  # the loop may have ended already
            self._loop.call_soon_threadsafe(self._cancel)
        if self._server is not None:
            self._server.join(timeout_s)
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        wait(tuple(self._driving), max(0.0, deadline - time.monotonic()))

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
        try:
            async with asyncio.timeout(ANSWERS_WITHIN_S):
                await app.open_async()
            self._serving = asyncio.ensure_future(
                app.run_worker_async(
                    queues=[self.pool],
                    concurrency=self.concurrency,  # what is fetched begins at once: nobody else can take it any more
                    name=self.name,
                    fetch_job_polling_interval=POLL_S,
                    shutdown_graceful_timeout=ENDS_WITHIN_S,
                    delete_jobs=jobs.DeleteJobCondition.ALWAYS,
                    install_signal_handlers=False,
                )
            )
            if self._stopping.is_set():
                self._serving.cancel()
            sweeping = asyncio.ensure_future(_sweep(app))
            try:
                with contextlib.suppress(asyncio.CancelledError):
                    await self._serving
            finally:
                sweeping.cancel()
        finally:
            await app.close_async()

    def _app(self) -> procrastinate.App:
        conninfo = sa.engine.make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)
        silent = {**SILENT_CLIENT, "tcp_user_timeout": int(ANSWERS_WITHIN_S * 1000)}
        connector = procrastinate.PsycopgConnector(
            conninfo=conninfo, min_size=1, max_size=4, timeout=ANSWERS_WITHIN_S, kwargs=silent
        )
        app = procrastinate.App(connector=connector)

        async def wake(run_id: str) -> None:
            await asyncio.shield(asyncio.wrap_future(self._driven(run_id)))

        async def leap(timestamp: int) -> None:
            del timestamp

        app.task(name=TASK, queue=self.pool)(wake)
        app.periodic(cron=HARDLY_EVER, periodic_id=self.pool)(app.task(name="leap", queue=self.pool)(leap))
        return app

    def _driven(self, run_id: str) -> Future[None]:
        assert self._threads is not None  # noqa: S101 - `start` made them
        driving = self._threads.submit(self.drive, run_id)
        self._driving.add(driving)
        driving.add_done_callback(self._driving.discard)
        return driving


async def _sweep(app: procrastinate.App) -> None:
    """End the jobs that dead workers left `doing`; never by a retry, since whoever took up their runs woke those."""
    while True:
        await asyncio.sleep(SWEPT_EVERY_S)
        with contextlib.suppress(procrastinate.exceptions.ConnectorException):  # the worker notices, and begins again
            for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_S):
                await app.job_manager.finish_job(job, status=jobs.Status.FAILED, delete_job=True)
