"""The one place where the asynchronous bot crosses to the synchronous engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def ask(call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a method of the service in a thread. Its errors come through unchanged.

    A caller that gives up (timeout) leaves the call running: it may still be carried out, so say so to people.
    """
    return await asyncio.to_thread(call, *args, **kwargs)
