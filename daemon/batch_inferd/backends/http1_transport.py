"""The HTTP transport of the workers: HTTP/1.1 on their own event loop, without a thread beside it.

One call costs a future, a write and a read; everything else is done once for a target, or twice a second
for all calls together.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

from batch_inferd.backends.connection import READ_BYTES, Connection
from batch_inferd.backends.decoding import Garbled, Unknown, decoder_of
from batch_inferd.backends.headers import Headers
from batch_inferd.backends.opening import open_along
from batch_inferd.backends.probe import probe
from batch_inferd.backends.route import Route
from batch_inferd.backends.transport import LARGE, HttpReply, NotSent, SentFailed
from batch_inferd.seams.failpoint import failpoint

if TYPE_CHECKING:
    from batch_inferd.backends.decoding import Decoder
    from batch_inferd.backends.transport import Room, Target

# Shorter than the idle time after which common servers hang up (uvicorn and Node: 5 s): a connection that
# the server has just closed would turn an unsent request into one that may have been sent.
KEEPALIVE_S = 4.0
# What of a call's time may be spent on connecting: a time that ran out before anything was sent must be known
# as such.
_CONNECT_SHARE = 0.9
# How often the times of all calls are looked at: ten times in the shortest, within these bounds.
_LOOK_S = (0.01, 0.5)


class _Pool:
    """The connections of one target that wait for their next call, the newest last."""

    __slots__ = ("calls", "connect_s", "idle", "look_s", "read_s", "route", "total_s")

    def __init__(self, target: Target) -> None:
        """Raises ValueError."""
        times = target.timeouts
        self.route = Route(target)
        self.calls = 0
        self.idle: list[Connection] = []
        self.read_s, self.total_s = times.read, times.total
        self.connect_s = min(times.connect, min(times.read, times.total) * _CONNECT_SHARE)
        self.look_s = min(max(min(times.read, times.total) / 10, _LOOK_S[0]), _LOOK_S[1])

    def take(self, now: float) -> Connection | None:
        """One that a request can go out on; None where there is none."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            if now - connection.kept_at < KEEPALIVE_S and connection.quiet:
                return connection
            connection.abort()
        return None

    def reap(self, now: float) -> None:
        """Shut those that have waited too long."""
        kept = [one for one in self.idle if now - one.kept_at < KEEPALIVE_S and not one.closed]
        for connection in set(self.idle).difference(kept):
            connection.abort()
        self.idle = kept


class Http1Transport:
    """A pool of connections for each target; to be used on one event loop.

    Its timeouts are the network's, and run on real time whatever the clock seam says. The time to the first
    byte of an answer is bounded by `timeouts.read`, sending included.
    """

    def __init__(self) -> None:
        self._pools: dict[Target, _Pool] = {}
        self._busy: set[Connection] = set()
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._tls: ssl.SSLContext | None = None
        self._closed = False
        self._look: asyncio.TimerHandle | None = None
        self._look_s = _LOOK_S[1]

    async def post(self, target: Target, body: bytes, room: Room | None = None) -> HttpReply:
        """See `HttpTransport.post`."""
        pool = self._pools.get(target)
        if pool is None:
            pool = self._make(target)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        pool.calls += 1
        try:
            connection = pool.take(begun)
            if connection is None:
                connection = await open_along(pool.route, self._connection, self._context, pool.connect_s)
                if connection.closed or self._closed:
                    connection.abort()
                    raise NotSent("connect", "it was closed at once", pool.route.first.address)
            self._busy.add(connection)
            try:
                due = begun + pool.total_s
                await connection.send(pool.route.head, body, due=due, read_s=pool.read_s)
                failpoint("call.sent")
                content = connection.whole(target.max_bytes)
                if content is None:
                    content = await _body(connection, target.max_bytes, room)
                reply = HttpReply(connection.status, Headers(connection.headers), content)
            except BaseException:
                connection.abort()
                raise
            finally:
                self._busy.discard(connection)
            if connection.reusable and not self._closed:
                connection.kept_at = loop.time()
                pool.idle.append(connection)
            else:
                connection.abort()
            return reply
        finally:
            pool.calls -= 1

    async def probe(self, base_url: str, proxy: str | None, timeout_s: float) -> None:
        """See `HttpTransport.probe`."""
        await probe(base_url, proxy, timeout_s)

    async def close(self) -> None:
        """See `HttpTransport.close`."""
        if self._look is not None:
            self._look.cancel()
            self._look = None
        self._closed = True
        for connection in self._busy:
            connection.fail("reset", "the transport was closed")
        for pool in self._pools.values():
            for connection in pool.idle:
                connection.abort()
        self._pools.clear()
        await asyncio.sleep(0)  # the loop closes what was shut

    def _make(self, target: Target) -> _Pool:
        """Raises NotSent for a target that cannot be called."""
        try:
            pool = _Pool(target)
        except ValueError as error:
            # The words of the error may hold a header, and so the credential.
            detail = f"its address, its proxy or a header of the call is none ({type(error).__name__})"
            address = (target.proxy or target.url).partition("://")[2].partition("/")[0].rpartition("@")[2]
            raise NotSent("connect", detail, address) from None
        self._pools[target] = pool
        self._look_s = min(self._look_s, pool.look_s)
        if self._look is None and not self._closed:
            self._look = asyncio.get_running_loop().call_later(self._look_s, self._look_after)
        return pool

    def _connection(self) -> Connection:
        return Connection(self._buffer)

    def _context(self) -> ssl.SSLContext:
        """Trusted are the system's authorities; SSL_CERT_FILE and SSL_CERT_DIR count."""
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    def _look_after(self) -> None:
        """End the calls whose time is up, and shut connections that nobody needs."""
        now = asyncio.get_running_loop().time()
        for connection in [one for one in self._busy if now >= one.due or now - one.heard >= one.read_s]:
            connection.fail("timeout", "the answer, or its next byte, did not come in time")
        for target, pool in [*self._pools.items()]:
            pool.reap(now)
            if not pool.calls and not pool.idle:
                del self._pools[target]
        self._look = None
        if self._pools:
            self._look_s = min(pool.look_s for pool in self._pools.values())
            self._look = asyncio.get_running_loop().call_later(self._look_s, self._look_after)
        else:
            self._look_s = _LOOK_S[1]


async def _body(connection: Connection, max_bytes: int, room: Room | None) -> bytes:
    """The decompressed body, whose size is bounded while it comes in. Raises SentFailed."""
    coding = connection.headers.get(b"content-encoding")
    try:
        decoder = None if coding is None else decoder_of(coding.decode("latin-1"))
        return await _pieces(connection, decoder, max_bytes, room)
    except Unknown as error:
        raise SentFailed("unparsable", f"the answer is of no use: {error}") from None
    except Garbled as error:
        raise SentFailed("truncated", f"the answer ended in its middle: {error}") from None


async def _pieces(
    connection: Connection, decoder: Decoder | None, max_bytes: int, room: Room | None
) -> bytes:
    """Raises SentFailed, Garbled."""
    taken = size = 0
    length = connection.length
    if length is not None and decoder is None:
        if length > max_bytes:
            raise _too_large(max_bytes)
        if length > LARGE and room is not None:
            await _take(connection, room, length)
            taken = length
    parts: list[bytes] = []
    fed = False
    while True:
        ended = connection.complete
        for part in connection.take():
            fed = True
            for piece in (part,) if decoder is None else decoder.feed(part):
                size += len(piece)
                if size > max_bytes:
                    raise _too_large(max_bytes)
                if size > max(LARGE, taken) and room is not None:
                    await _take(connection, room, len(piece))
                parts.append(piece)
        if connection.failure is not None:
            raise connection.failure
        if ended:
            if decoder is not None and fed and not decoder.finished:
                raise Garbled("there is no end to what was compressed")
            return b"".join(parts)
        await connection.more()


async def _take(connection: Connection, room: Room, size: int) -> None:
    """Raises SentFailed when the call's time is up before there is room."""
    try:
        async with asyncio.timeout_at(connection.due):
            await room.take(size)
    except TimeoutError:
        raise SentFailed("timeout", "there was no room for the answer in time") from None


def _too_large(max_bytes: int) -> SentFailed:
    return SentFailed("response_too_large", f"the answer is larger than {max_bytes} bytes")
