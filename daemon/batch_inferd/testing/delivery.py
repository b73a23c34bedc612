"""Puts answers on the wire, whole or broken on purpose.

The broken ones are written to the transport by hand: aiohttp would not let them out. After each of
them the connection is closing, and what the handler returns then is never sent.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

_TICK_S = 0.05  # between two bytes of a slow loris, and between two looks whether the client is gone


def connected(request: web.BaseRequest) -> bool:
    """Whether the client is still there."""
    return request.transport is not None and not request.transport.is_closing()


async def deliver(request: web.BaseRequest, response: web.Response) -> bool:
    """Send an answer; whether all of it went into the socket while the client was there."""
    if request.transport is None:
        return False
    request.transport.set_write_buffer_limits(high=0)  # so that draining means: nothing is left here
    try:
        await response.prepare(request)
        await response.write_eof()
    except ConnectionError:
        return False
    return connected(request)


def drop(request: web.BaseRequest) -> None:
    """Close the connection at once, without a word."""
    if request.transport is not None:
        request.transport.abort()


def truncate(request: web.BaseRequest, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Promise a body, send half of it, close."""
    if request.transport is not None:
        head = _head(status, {**headers, "Content-Length": str(len(body))})
        request.transport.write(head + body[: len(body) // 2])
        request.transport.close()


async def hang(request: web.BaseRequest) -> None:
    """Say nothing until the client leaves."""
    while connected(request):  # noqa: ASYNC110  aiohttp tells a handler nothing unless it cancels it
        await asyncio.sleep(_TICK_S)


async def drip(request: web.BaseRequest, status: int, headers: Mapping[str, str]) -> None:
    """Send a head, then a space at a time (legal before any JSON), until the client leaves."""
    if (transport := request.transport) is None:
        return
    transport.write(_head(status, {**headers, "Transfer-Encoding": "chunked"}))
    while not transport.is_closing():
        transport.write(b"1\r\n \r\n")
        await asyncio.sleep(_TICK_S)


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} OK", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
