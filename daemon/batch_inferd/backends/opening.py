"""Opening a connection along a route: to the service, to a proxy, or through one."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, cast

from batch_inferd.backends.connection import keep_unread_below
from batch_inferd.backends.dialling import dial
from batch_inferd.backends.probe import reason_of
from batch_inferd.backends.transport import NotSent

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from batch_inferd.backends.connection import Connection
    from batch_inferd.backends.route import Route

_HEAD_BYTES = 16 * 1024  # of a proxy's answer
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")


async def open_along(
    route: Route, made: Callable[[], Connection], tls: Callable[[], ssl.SSLContext], seconds: float
) -> Connection:
    """A connection that takes requests. Raises NotSent; the time for it is bounded by `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            if route.tunnel is not None:
                return await _through(route, route.tunnel, made, tls)
            first = route.first
            return (await dial(made, first.host, first.port, tls() if first.secure else None))[1]
    except (OSError, ValueError, _Refused) as error:  # a TimeoutError is one of the first
        reason, detail = ("proxy", str(error)) if isinstance(error, _Refused) else reason_of(error)
        if route.proxied and reason != "tls":
            reason = "proxy"
        raise NotSent(reason, detail, route.first.address) from error


async def _through(
    route: Route, request: bytes, made: Callable[[], Connection], tls: Callable[[], ssl.SSLContext]
) -> Connection:
    """Through a tunnel of the proxy. Raises OSError, ValueError, _Refused."""
    first = route.first
    outer, waiting = await dial(_Tunnel, first.host, first.port, tls() if first.secure else None)
    try:
        outer.write(request)
        await waiting.answered
        connection = made()
        loop = asyncio.get_running_loop()
        inner = await loop.start_tls(outer, connection, tls(), server_hostname=route.service.host)
    except BaseException:
        outer.abort()
        raise
    if inner is None:
        raise ConnectionResetError("the tunnel was closed")
    connection.connection_made(inner)
    return connection


class _Refused(Exception):  # noqa: N818  it is what the proxy did
    """The proxy opens no tunnel."""


class _Tunnel(asyncio.Protocol):
    """Waits for a proxy's answer about a tunnel."""

    def __init__(self) -> None:
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if transport.get_extra_info("ssl_object") is not None:
            keep_unread_below(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        self._head += data
        if self.answered.done():
            return
        if b"\r\n\r\n" in self._head:
            status = _STATUS.match(self._head)
            if status is None:
                self._refuse("its answer is not HTTP")
            elif status[1] == b"407":
                self._refuse("it asks for a credential of its own")
            elif not status[1].startswith(b"2"):
                self._refuse(f"it did not open a tunnel: status {status[1].decode()}")
            elif not self._head.endswith(b"\r\n\r\n"):
                self._refuse("it did not open a tunnel: it went on talking")
            else:
                self.answered.set_result(None)
        elif len(self._head) > _HEAD_BYTES:
            self._refuse("its answer is not HTTP")

    def connection_lost(self, error: Exception | None) -> None:
        if not self.answered.done():
            self._refuse("it closed the connection" if error is None else "the connection broke")

    def _refuse(self, why: str) -> None:
        self.answered.set_exception(_Refused(why))
        self.answered.exception()  # whoever waits learns of it; perhaps nobody does any more
