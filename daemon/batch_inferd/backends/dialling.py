"""Connecting to whichever address of a host answers first, on any event loop."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

STAGGER_S = 0.25  # before the next address is tried beside the ones before it
_BUFFER = 1024


async def dial(host: str, port: int, tls: ssl.SSLContext | None) -> asyncio.StreamWriter:
    """An open connection, with the handshake of TLS done. Raises OSError, ssl.SSLError, ValueError."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, asyncio.BaseEventLoop):
        _, writer = await asyncio.open_connection(
            host, port, ssl=tls, happy_eyeballs_delay=STAGGER_S, limit=_BUFFER
        )
        return writer
    # uvloop tries the addresses one after the other: one that swallows packets would take all the time.
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    attempts: list[asyncio.Task[asyncio.StreamWriter]] = []
    try:
        return await _first(addresses, port, tls, host, attempts)
    finally:
        for attempt in attempts:
            attempt.cancel()
        for late in await asyncio.gather(*attempts, return_exceptions=True):
            if isinstance(late, asyncio.StreamWriter):
                late.transport.abort()


async def _first(
    addresses: list[str],
    port: int,
    tls: ssl.SSLContext | None,
    host: str,
    attempts: list[asyncio.Task[asyncio.StreamWriter]],
) -> asyncio.StreamWriter:
    running: set[asyncio.Task[asyncio.StreamWriter]] = set()
    failed: BaseException = OSError(f"no address of {host}")
    for address in addresses:
        attempts.append(asyncio.create_task(_connect(address, port, tls, host)))
        running.add(attempts[-1])
        last = len(attempts) == len(addresses)
        while running:
            timeout = None if last else STAGGER_S
            done, running = await asyncio.wait(running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            for attempt in done:
                error = attempt.exception()
                if error is None:
                    attempts.remove(attempt)
                    return attempt.result()
                failed = error
            if not last:
                break  # nobody answered in time, or one failed: on to the next
    raise failed


async def _connect(address: str, port: int, tls: ssl.SSLContext | None, host: str) -> asyncio.StreamWriter:
    name = host if tls is not None else None
    _, writer = await asyncio.open_connection(address, port, ssl=tls, server_hostname=name, limit=_BUFFER)
    return writer
