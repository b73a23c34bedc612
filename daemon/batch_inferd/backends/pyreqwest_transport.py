"""The HTTP transport over pyreqwest, whose connections live in a thread of their own."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from weakref import WeakKeyDictionary, WeakSet

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import BuilderError, PyreqwestError
from pyreqwest.http import Url
from pyreqwest.proxy import ProxyBuilder

from batch_infer.version import __version__
from batch_inferd.backends import hangup
from batch_inferd.backends.probe import probe
from batch_inferd.backends.pyreqwest_errors import translate
from batch_inferd.backends.transport import LARGE, HttpReply, NotSent, SentFailed
from batch_inferd.seams.failpoint import failpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyreqwest.http import HeaderMap
    from pyreqwest.response import Response

    from batch_inferd.backends.transport import Room, Target

# Shorter than the idle time after which common servers hang up (uvicorn and Node: 5 s): a connection that
# the server has just closed would turn an unsent request into one that may have been sent.
KEEPALIVE_S = 4.0
# A connection on which nothing is acknowledged for so long is dead. Each pool adds its number: that is the
# mark by which its sockets are found again, see `hangup`.
_UNACKNOWLEDGED_MS = 120_000
_MARKS = 100_000
_SWEEP_S = 0.5
# Bytes of an answer's body that are read with its head: most answers are shorter, and come in one go. More
# would be held by each call that waits for room.
_AHEAD = 4096
# How long the loop leaves the interpreter to pyreqwest's thread after a turn in which calls were sent.
_REST_S = 0.0002
# The timer of the whole call runs from its first moment. Were it to ring while connecting, nobody could
# tell that nothing was sent.
_CONNECT_SHARE = 0.9

_marks = itertools.count(1)  # of all transports in this process, which may run in several threads
_marks_lock = threading.Lock()


class _Pool:
    """The connections of one target.

    When a call is cancelled before its answer has begun, the pool takes no new calls; when no living call
    is left on it, its connections are shut.
    """

    __slots__ = ("__weakref__", "calls", "client", "connect_s", "mark", "retired", "url")

    def __init__(self, target: Target) -> None:
        times = target.timeouts
        self.calls = 0
        self.retired = False
        self.connect_s = min(times.connect, min(times.read, times.total) * _CONNECT_SHARE)
        with _marks_lock:
            self.mark = _UNACKNOWLEDGED_MS + next(_marks) % _MARKS
        self.url = Url(target.url)
        self.client = _client(target, self.connect_s, self.mark)

    def left(self) -> None:
        """A call is over. Shuts the connections of calls that were given up, if it was the last."""
        self.calls -= 1
        if self.retired and not self.calls:
            self._sweep(asyncio.get_running_loop(), self.connect_s)

    def _sweep(self, loop: asyncio.AbstractEventLoop, remaining_s: float) -> None:
        """Until no connection can come into being any more: one that was being made is sent on, too."""
        hangup.hang_up(self.mark)
        if hangup.AVAILABLE and remaining_s > 0 and not loop.is_closed():
            loop.call_later(_SWEEP_S, self._sweep, loop, remaining_s - _SWEEP_S)


class PyreqwestTransport:
    """A pool of connections for each target.

    Its timeouts are the network's, and run on real time whatever the clock seam says. The time to the first
    byte of an answer is bounded by `timeouts.read`, connecting and sending included.
    """

    def __init__(self) -> None:
        self._pools: WeakKeyDictionary[Target, _Pool] = WeakKeyDictionary()
        self._all: WeakSet[_Pool] = WeakSet()
        self._rest_due = False

    async def post(self, target: Target, body: bytes, room: Room | None = None) -> HttpReply:
        """See `HttpTransport.post`."""
        pool = self._pools.get(target)
        if pool is None or pool.retired:
            pool = self._make(target)
        cancelled = _Cancelled()
        answered = False
        pool.calls += 1
        if not self._rest_due:
            self._rest_due = True
            asyncio.get_running_loop().call_soon(self._rest)
        try:
            request = pool.client.post(pool.url).body_bytes(body).streamed_read_buffer_limit(_AHEAD)
            async with request.build_streamed() as response:
                answered = True
                cancelled.check()
                failpoint("call.sent")
                content = await _read(response, target.max_bytes, cancelled, room)
                return HttpReply(response.status, _Headers(response.headers), content)
        except asyncio.CancelledError:
            pool.retired = pool.retired or not answered
            raise
        except PyreqwestError as error:
            cancelled.check()
            raise translate(error, target) from error
        finally:
            pool.left()

    def _rest(self) -> None:
        """Let many answers become one turn of the loop.

        pyreqwest's thread needs the interpreter for each answer. When every one of them wakes the loop, both
        threads wait for each other all the time, which costs more than the calls themselves.
        """
        self._rest_due = False
        time.sleep(_REST_S)

    async def probe(self, base_url: str, proxy: str | None, timeout_s: float) -> None:
        """See `HttpTransport.probe`."""
        await probe(base_url, proxy, timeout_s)

    async def close(self) -> None:
        """See `HttpTransport.close`."""
        for pool in list(self._all):
            await pool.client.close()
            hangup.hang_up(pool.mark)
        self._pools.clear()

    def _make(self, target: Target) -> _Pool:
        """Raises NotSent for a target that no client can be made for."""
        try:
            pool = _Pool(target)
        except (BuilderError, ValueError, OSError) as error:
            peer = urlsplit(target.proxy or target.url)
            # The words of the error may hold the header, and so the credential.
            detail = f"no client for this address, its proxy and headers ({type(error).__name__})"
            raise NotSent("connect", detail, peer.netloc.rpartition("@")[2]) from None
        self._pools[target] = pool
        self._all.add(pool)
        return pool


def _client(target: Target, connect_s: float, mark: int) -> Client:
    """Raises BuilderError or ValueError for a URL, header or proxy that is none.

    The authorities it trusts are the system's; SSL_CERT_FILE and SSL_CERT_DIR count. HTTP/2 is off: all
    calls would share a connection, and wait for each other beyond the streams that the service allows.
    """
    builder = (
        ClientBuilder()
        .user_agent(f"batch_infer/{__version__}")
        .default_headers(target.headers)
        .follow_redirects(enable=False)
        .referer(enable=False)
        .http1_only()
        .connect_timeout(timedelta(seconds=connect_s))
        .read_timeout(timedelta(seconds=target.timeouts.read))
        .timeout(timedelta(seconds=target.timeouts.total))
        .pool_idle_timeout(timedelta(seconds=KEEPALIVE_S))
    )
    if hangup.AVAILABLE:
        builder = builder.tcp_user_timeout(timedelta(milliseconds=mark))
    builder = builder.no_proxy() if target.proxy is None else builder.proxy(_proxy(target.proxy))
    return builder.build()


def _proxy(url: str) -> ProxyBuilder:
    parts = urlsplit(url)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    proxy = ProxyBuilder.all(bare)
    if parts.username is None:
        return proxy
    return proxy.basic_auth(unquote(parts.username), unquote(parts.password or ""))


class _Cancelled:
    """Whether the running task has been cancelled since this was made.

    pyreqwest keeps a cancel to itself when it comes in the same moment as what was waited for.
    """

    __slots__ = ("_before", "_task")

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._before = 0 if self._task is None else self._task.cancelling()

    def check(self) -> None:
        """Raises CancelledError when it has."""
        if self._task is not None and self._task.cancelling() > self._before:
            raise asyncio.CancelledError


async def _read(response: Response, max_bytes: int, cancelled: _Cancelled, room: Room | None) -> bytes:
    """The decompressed body, whose size is bounded while it comes in.

    A length is only there when the body is not compressed, and then it is the body's.
    """
    taken = 0
    length = response.get_header("content-length")
    if length is not None and length.isdecimal() and response.get_header("transfer-encoding") is None:
        size = int(length)
        if size > max_bytes:
            raise _too_large(max_bytes)
        if size <= LARGE:
            whole = await response.bytes()
            cancelled.check()
            return whole.to_bytes()
        if room is not None:
            await room.take(size)
            taken = size
    parts: list[bytes] = []
    size = 0
    reader = response.body_reader  # a large body as one would be held by pyreqwest for some time
    while (part := await reader.read_chunk()) is not None:
        cancelled.check()
        size += len(part)
        if size > max_bytes:
            raise _too_large(max_bytes)
        if size > max(LARGE, taken) and room is not None:
            await room.take(len(part))
        parts.append(part.to_bytes())
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(max_bytes: int) -> SentFailed:
    return SentFailed("response_too_large", f"the answer is larger than {max_bytes} bytes")


class _Headers(Mapping[str, str]):
    """An answer's headers, by lower-case name, decoded when asked for. One that is no text is not there."""

    __slots__ = ("_map",)

    def __init__(self, found: HeaderMap) -> None:
        self._map = found

    def __getitem__(self, name: str) -> str:
        try:
            return self._map[name]
        except ValueError:
            raise KeyError(name) from None

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self._map.get(name, default)
        except ValueError:
            return default

    def __iter__(self) -> Iterator[str]:
        return (name for name in dict.fromkeys(self._map) if self.get(name) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)
