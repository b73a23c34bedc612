"""The HTTP transport over aiohttp: the client that the one in the product is compared with."""

from __future__ import annotations

import base64
import contextlib
import io
import socket
import ssl
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import aiohttp
from yarl import URL

from batch_infer.version import __version__
from batch_inferd.backends.probe import probe, reason_of
from batch_inferd.backends.transport import LARGE, HttpReply, NotSent, SentFailed
from batch_inferd.seams.failpoint import failpoint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from batch_inferd.backends.transport import Room, Target

# Shorter than the idle time after which common servers hang up (uvicorn and Node: 5 s): a connection that
# the server has just closed would turn an unsent request into one that may have been sent.
KEEPALIVE_S = 4.0
HEADER_BYTES = 64 * 1024
LARGE_BODY = 1024 * 1024  # above this aiohttp wants a file, which it feeds to the socket piece by piece


class _Phase:
    """Whether the first byte of this request may have left."""

    __slots__ = ("sent",)

    def __init__(self) -> None:
        self.sent = False


class _Ready(NamedTuple):
    """What aiohttp wants of a target."""

    url: URL
    headers: Mapping[str, str]
    proxy: URL | None
    proxy_headers: dict[str, str] | None
    timeout: aiohttp.ClientTimeout


class AiohttpTransport:
    """One session, one pool of connections, for all accounts of a worker. Make it inside the loop.

    Its timeouts are the network's, and run on real time whatever the clock seam says.
    """

    def __init__(self) -> None:
        self._ready: WeakKeyDictionary[Target, _Ready] = WeakKeyDictionary()
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_mark_sent)
        self._tls = ssl.create_default_context()  # the system's CAs; SSL_CERT_FILE and SSL_CERT_DIR count
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S, ssl=self._tls),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            trace_configs=[trace],
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
            headers={"User-Agent": f"batch_infer/{__version__}"},
        )

    async def post(self, target: Target, body: bytes, room: Room | None = None) -> HttpReply:
        """See `HttpTransport.post`."""
        ready = self._ready.get(target)
        if ready is None:
            try:
                ready = self._ready[target] = _make_ready(target)
            except ValueError as error:
                raise NotSent("connect", str(error), urlsplit(target.url).netloc) from error
        phase = _Phase()
        with _translated(phase, ready.url, ready.proxy):
            async with self._session.post(
                ready.url,
                data=io.BytesIO(body) if len(body) > LARGE_BODY else body,
                headers=ready.headers,
                allow_redirects=False,
                proxy=ready.proxy,
                proxy_headers=ready.proxy_headers,
                timeout=ready.timeout,
                trace_request_ctx=phase,
            ) as response:
                failpoint("call.sent")
                content = await _read(response, target.max_bytes, room)
        return HttpReply(response.status, {k.lower(): v for k, v in response.headers.items()}, content)

    async def probe(self, base_url: str, proxy: str | None, timeout_s: float) -> None:
        """See `HttpTransport.probe`."""
        await probe(base_url, proxy, timeout_s)

    async def close(self) -> None:
        """See `HttpTransport.close`."""
        await self._session.close()


def _make_ready(target: Target) -> _Ready:
    url, proxy, proxy_headers = URL(target.url), *_split_proxy(target.proxy)
    headers = target.headers
    if proxy_headers and url.scheme == "http":  # no tunnel: the proxy reads the request itself
        headers = {**headers, **proxy_headers}
    times = target.timeouts
    timeout = aiohttp.ClientTimeout(total=times.total, connect=times.connect, sock_read=times.read)
    return _Ready(url, headers, proxy, proxy_headers, timeout)


async def _mark_sent(_session: aiohttp.ClientSession, context: Any, _params: Any) -> None:
    phase = context.trace_request_ctx
    if isinstance(phase, _Phase):
        phase.sent = True


async def _read(response: aiohttp.ClientResponse, max_bytes: int, room: Room | None) -> bytes:
    """The decompressed body, whose size is bounded while it comes in."""
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > max_bytes:
            raise SentFailed("response_too_large", f"the answer is larger than {max_bytes} bytes")
        if size > LARGE and room is not None:
            await room.take(len(part))
        if size > LARGE and room is not None:
            await room.take(len(part))
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


@contextlib.contextmanager
def _translated(phase: _Phase, target: URL, proxy: URL | None) -> Iterator[None]:
    """Turn whatever aiohttp raises into NotSent or SentFailed."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        if not phase.sent:
            raise _not_sent(error, target, proxy) from error
        raise _sent_failed(error) from error


def _not_sent(error: Exception, target: URL, proxy: URL | None) -> NotSent:
    peer = proxy or target
    address = f"{peer.host}:{peer.port}"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return NotSent("proxy", f"the proxy answered {error.status} {error.message}", address)
    reason, detail = _connect_reason(error)
    if proxy is not None and reason != "tls":
        return NotSent("proxy", detail, address)
    return NotSent(reason, detail, address)


def _connect_reason(error: Exception) -> tuple[str, str]:
    if isinstance(error, TimeoutError) and not getattr(error, "errno", None):
        return "connect_timeout", "no connection in time"
    cause = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    if isinstance(error, aiohttp.ClientConnectorDNSError) or isinstance(cause, socket.gaierror):
        return "dns", "the name cannot be resolved"
    return reason_of(cause)


def _sent_failed(error: Exception) -> SentFailed:
    if isinstance(error, aiohttp.SocketTimeoutError):
        return SentFailed("timeout", "no byte of the answer came in time")
    if isinstance(error, TimeoutError) and not getattr(error, "errno", None):
        return SentFailed("timeout", "the answer was not complete in time")
    if isinstance(error, aiohttp.ClientPayloadError):
        return SentFailed("truncated", "the connection ended in the middle of the answer")
    if isinstance(error, aiohttp.ClientResponseError):
        return SentFailed("unparsable", f"the answer is not HTTP: {error.message[:200]}")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return SentFailed("reset", "the service closed the connection without an answer")
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return SentFailed("reset", getattr(cause, "strerror", None) or "the connection broke")


def _split_proxy(proxy: str | None) -> tuple[URL | None, dict[str, str] | None]:
    """The proxy's URL without its user, and the header that carries the user instead."""
    if not proxy:
        return None, None
    url = URL(proxy)
    if url.user is None:
        return url, None
    token = base64.b64encode(f"{url.user}:{url.password or ''}".encode()).decode()
    return url.with_user(None), {"Proxy-Authorization": f"Basic {token}"}
