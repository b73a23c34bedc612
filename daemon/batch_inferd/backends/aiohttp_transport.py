"""The HTTP transport over aiohttp."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import io
import socket
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from batch_infer.version import __version__
from batch_inferd.backends.transport import HttpReply, NotSent, SentFailed
from batch_inferd.seams.failpoint import failpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from batch_inferd.backends.plan import Timeouts

# Shorter than the idle time after which common servers hang up (uvicorn and Node: 5 s): a connection that
# the server has just closed would turn an unsent request into one that may have been sent.
KEEPALIVE_S = 4.0
HEADER_BYTES = 64 * 1024
LARGE_BODY = 1024 * 1024  # above this aiohttp wants a file, which it feeds to the socket piece by piece
_UNREACHABLE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL})


class _Phase:
    """Whether the first byte of this request may have left."""

    __slots__ = ("sent",)

    def __init__(self) -> None:
        self.sent = False


class AiohttpTransport:
    """One session, one pool of connections, for all accounts of a worker. Make it inside the loop.

    Its timeouts are the network's, and run on real time whatever the clock seam says.
    """

    def __init__(self) -> None:
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

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        timeouts: Timeouts,
        proxy: str | None,
        max_bytes: int,
    ) -> HttpReply:
        """See `HttpTransport.post`."""
        phase = _Phase()
        target, proxy_url, proxy_headers = URL(url), *_split_proxy(proxy)
        if proxy_headers and target.scheme == "http":  # no tunnel: the proxy reads the request itself
            headers = {**headers, **proxy_headers}
        with _translated(phase, target, proxy_url):
            async with self._session.post(
                target,
                data=io.BytesIO(body) if len(body) > LARGE_BODY else body,
                headers=headers,
                allow_redirects=False,
                proxy=proxy_url,
                proxy_headers=proxy_headers,
                timeout=aiohttp.ClientTimeout(
                    total=timeouts.total, connect=timeouts.connect, sock_read=timeouts.read
                ),
                trace_request_ctx=phase,
            ) as response:
                failpoint("call.sent")
                content = await _read(response, max_bytes)
        return HttpReply(response.status, {k.lower(): v for k, v in response.headers.items()}, content)

    async def probe(self, base_url: str, proxy: str | None, timeout_s: float) -> None:
        """See `HttpTransport.probe`. With TLS and no proxy, the handshake is part of it."""
        target, proxy_url, _ = URL(base_url), *_split_proxy(proxy)
        peer = proxy_url or target
        with _translated(_Phase(), target, proxy_url):
            async with _dial(peer, self._tls if peer.scheme == "https" else None, timeout_s):
                pass

    async def close(self) -> None:
        """See `HttpTransport.close`."""
        await self._session.close()


@contextlib.asynccontextmanager
async def _dial(peer: URL, tls: ssl.SSLContext | None, timeout_s: float) -> AsyncIterator[None]:
    async with asyncio.timeout(timeout_s):
        _, writer = await asyncio.open_connection(
            peer.host, peer.port, ssl=tls, happy_eyeballs_delay=0.25, limit=1024
        )
    try:
        yield
    finally:
        writer.transport.abort()  # nothing is owed to the other side of a probe


async def _mark_sent(_session: aiohttp.ClientSession, context: Any, _params: Any) -> None:
    phase = context.trace_request_ctx
    if isinstance(phase, _Phase):
        phase.sent = True


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """The decompressed body, whose size is bounded while it comes in."""
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > max_bytes:
            raise SentFailed("response_too_large", f"the answer is larger than {max_bytes} bytes")
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
    if isinstance(cause, ssl.SSLCertVerificationError):
        return "tls", f"the certificate is not trusted: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return "tls", f"no TLS connection: {cause.reason or cause}"
    number = getattr(cause, "errno", None)
    if isinstance(cause, ConnectionRefusedError) or number == errno.ECONNREFUSED:
        return "refused", "connection refused"
    if number in _UNREACHABLE:
        return "unreachable", str(getattr(cause, "strerror", None) or cause)
    if number == errno.ETIMEDOUT:
        return "connect_timeout", "no connection in time"
    return "connect", str(getattr(cause, "strerror", None) or cause or type(error).__name__)


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
