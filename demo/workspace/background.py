"""Runs a workspace in a thread with its own event loop, for synchronous tests and scripts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from demo.workspace.server import Workspace

STOP_S = 10


@contextmanager
def running(workspace: Workspace) -> Iterator[Workspace]:
    """Start, hand over, stop. An error at the start is raised here."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="workspace", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(workspace.start(), loop).result(STOP_S)
        try:
            yield workspace
        finally:
            asyncio.run_coroutine_threadsafe(workspace.stop(), loop).result(STOP_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(STOP_S)
        loop.close()
