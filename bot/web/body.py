"""Reading a request's body without trusting its sender: a cap in bytes, and a limit in time."""

from __future__ import annotations

import asyncio

from aiohttp import web

READ_S = 10.0
""" A body that takes longer than this is not worth a connection. """


async def read_capped(request: web.Request, limit: int) -> bytes:
    """The raw body; raises 413 over `limit` bytes (also when only announced), 408 when it takes too long."""
    if (request.content_length or 0) > limit:
        raise web.HTTPRequestEntityTooLarge(max_size=limit, actual_size=request.content_length or 0)
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(READ_S):
            async for piece in request.content.iter_chunked(1 << 16):
                size += len(piece)
                if size > limit:
                    raise web.HTTPRequestEntityTooLarge(max_size=limit, actual_size=size)
                pieces.append(piece)
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    return b"".join(pieces)
