"""Runs a workspace (or anything asynchronous) in a thread with its own event loop, for synchronous callers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

STOP_S = 20

T = TypeVar("T")


@contextmanager
def running(what: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Enter, hand over, leave: `with running(Workspace(...)) as workspace`. Errors of the start are raised here."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="workspace", daemon=True)
    thread.start()
    try:
        entered = asyncio.run_coroutine_threadsafe(what.__aenter__(), loop).result(STOP_S)
        try:
            yield entered
        finally:
            asyncio.run_coroutine_threadsafe(what.__aexit__(None, None, None), loop).result(STOP_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(STOP_S)
        loop.close()
