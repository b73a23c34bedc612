"""Connecting to whichever address of a host answers first, on any event loop.

uvloop tries the addresses one after the other: one that swallows packets would take all the time. asyncio's
way of trying them beside each other can lose a connection that stands when its caller gives up (Python 3.11).
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

P = TypeVar("P", bound=asyncio.BaseProtocol)

STAGGER_S = 0.25  # before the next address is tried beside the ones before it


async def dial(
    protocol: Callable[[], P], host: str, port: int, tls: ssl.SSLContext | None
) -> tuple[asyncio.Transport, P]:
    """An open connection, with the handshake of TLS done. Raises OSError, ssl.SSLError, ValueError.

    Once it was given up, nothing of it stays open.
    """
    addresses = await _addresses(host, port)
    if len(addresses) == 1:
        return await _connect(protocol, addresses[0], port, tls, host)
    attempts: list[asyncio.Task[tuple[asyncio.Transport, P]]] = []
    won: asyncio.Task[tuple[asyncio.Transport, P]] | None = None
    try:
        won = await _first(protocol, addresses, port, tls, host, attempts)
        return won.result()
    finally:
        late = [attempt for attempt in attempts if attempt is not won]
        for attempt in late:
            attempt.cancel()
            attempt.add_done_callback(_abort)


async def _addresses(host: str, port: int) -> list[str]:
    """Raises OSError."""
    loop = asyncio.get_running_loop()
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return [host]
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    if not addresses:
        raise OSError(f"no address of {host}")
    return addresses


async def _first(
    protocol: Callable[[], P],
    addresses: list[str],
    port: int,
    tls: ssl.SSLContext | None,
    host: str,
    attempts: list[asyncio.Task[tuple[asyncio.Transport, P]]],
) -> asyncio.Task[tuple[asyncio.Transport, P]]:
    """The attempt that came through first; all are put into `attempts`. Raises what the last one did."""
    running: set[asyncio.Task[tuple[asyncio.Transport, P]]] = set()
    failed: BaseException = OSError(f"no address of {host}")
    for address in addresses:
        attempts.append(asyncio.create_task(_connect(protocol, address, port, tls, host)))
        running.add(attempts[-1])
        last = len(attempts) == len(addresses)
        while running:
            timeout = None if last else STAGGER_S
            done, running = await asyncio.wait(running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            for attempt in done:
                error = attempt.exception()
                if error is None:
                    return attempt
                failed = error
            if not last:
                break  # nobody answered in time, or one failed: on to the next
    raise failed


def _abort(attempt: asyncio.Task[tuple[asyncio.Transport, P]]) -> None:
    """Nobody wants it any more."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result()[0].abort()


async def _connect(
    protocol: Callable[[], P], address: str, port: int, tls: ssl.SSLContext | None, host: str
) -> tuple[asyncio.Transport, P]:
    loop = asyncio.get_running_loop()
    name = host if tls is not None else None
    return await loop.create_connection(protocol, address, port, ssl=tls, server_hostname=name)
