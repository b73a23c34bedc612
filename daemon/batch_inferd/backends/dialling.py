"""Connecting to whichever address of a host answers first, on any event loop."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

P = TypeVar("P", bound=asyncio.BaseProtocol)

STAGGER_S = 0.25  # before the next address is tried beside the ones before it


async def dial(
    protocol: Callable[[], P], host: str, port: int, tls: ssl.SSLContext | None
) -> tuple[asyncio.Transport, P]:
    """An open connection, with the handshake of TLS done. Raises OSError, ssl.SSLError, ValueError."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, asyncio.BaseEventLoop):
        return await loop.create_connection(protocol, host, port, ssl=tls, happy_eyeballs_delay=STAGGER_S)
    # uvloop tries the addresses one after the other: one that swallows packets would take all the time.
    if _is_address(host):
        return await _connect(protocol, host, port, tls, host)
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    attempts: list[asyncio.Task[Any]] = []
    try:
        return await _first(protocol, addresses, port, tls, host, attempts)
    finally:
        for attempt in attempts:
            attempt.cancel()
        for late in await asyncio.gather(*attempts, return_exceptions=True):
            if isinstance(late, tuple):
                late[0].abort()


async def _first(
    protocol: Callable[[], P],
    addresses: list[str],
    port: int,
    tls: ssl.SSLContext | None,
    host: str,
    attempts: list[asyncio.Task[Any]],
) -> tuple[asyncio.Transport, P]:
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
                    attempts.remove(attempt)
                    return attempt.result()
                failed = error
            if not last:
                break  # nobody answered in time, or one failed: on to the next
    raise failed


async def _connect(
    protocol: Callable[[], P], address: str, port: int, tls: ssl.SSLContext | None, host: str
) -> tuple[asyncio.Transport, P]:
    loop = asyncio.get_running_loop()
    name = host if tls is not None else None
    return await loop.create_connection(protocol, address, port, ssl=tls, server_hostname=name)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
