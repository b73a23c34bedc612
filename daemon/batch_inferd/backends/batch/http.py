"""HTTP for Batch APIs: few calls, each on a connection of its own, sent once.

A connection that was kept alive may be closed by the service just as it is used again; then nobody
knows whether the request arrived. Such calls are rare here, and not knowing is dear: so none is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urljoin, urlsplit

import httpx

from batch_infer.version import __version__
from batch_inferd.backends.batch.inflate import ACCEPTED, Inflater
from batch_inferd.backends.transport import HttpReply, NotSent, SentFailed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping

    from batch_inferd.backends.batch.multipart import FormUpload
    from batch_inferd.backends.plan import RequestPlan

MAX_REPLY = 16 * 2**20
CALL_READ_S = 120.0  # without a byte of the answer; below every profile's settle_s
CALL_TOTAL_S = 300.0
_MAX_REDIRECTS = 5
_UNFINISHED = (ssl.SSLWantReadError, ssl.SSLWantWriteError)  # steps of every handshake
_RAISED: tuple[type[Exception], ...] = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, TimeoutError)
_UNREACHABLE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL})

# They log every address, and where results lie elsewhere, their address is the key to them.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class _Phase:
    """How far a request has come, as httpcore traces it; its `trace` extension."""

    def __init__(self, on_sent: Callable[[], None] | None = None) -> None:
        self.sent = False  # the first byte of it may have left
        self.answered = False  # the answer has begun
        self._on_sent = on_sent

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        """Trace. What asks a proxy for a tunnel is no part of the request."""
        if event.endswith("send_request_headers.started"):
            self.sent = info["request"].method != b"CONNECT"
        elif event.endswith("receive_response_headers.complete"):
            self.answered = self.sent
        elif event.endswith("send_request_body.complete") and self.sent and self._on_sent:
            self._on_sent()


class Download(NamedTuple):
    """A reply whose body is still to come. `framed`: its end cannot be taken for a broken connection."""

    status: int
    headers: dict[str, str]
    framed: bool
    pieces: AsyncIterator[bytes]  # decompressed, at most 256 KiB each


class HttpClient:
    """The calls of one plan. Make it inside the loop. All raise NotSent or SentFailed."""

    def __init__(self, plan: RequestPlan) -> None:
        self._plan = plan
        tls = ssl.create_default_context()  # the system's CAs; SSL_CERT_FILE and SSL_CERT_DIR count
        proxy = httpx.Proxy(plan.proxy, ssl_context=_proxy_tls(plan.proxy, tls)) if plan.proxy else None
        self._client = httpx.AsyncClient(
            verify=tls,
            trust_env=False,
            proxy=proxy,
            follow_redirects=False,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            headers={"User-Agent": f"batch_infer/{__version__}", "Accept-Encoding": ACCEPTED},
        )

    async def call(
        self,
        method: str,
        url: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        on_sent: Callable[[], None] | None = None,
        on_answered: Callable[[], None] | None = None,
    ) -> HttpReply:
        """Send, and read the answer: 16 MiB at most, within five minutes."""
        phase = _Phase(on_sent)
        headers = {**self._plan.headers, "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        with self._translated(phase, url, also=(OSError, ValueError)):
            async with asyncio.timeout(CALL_TOTAL_S):
                reply = await self._read(
                    self._client.build_request(
                        method,
                        self._url(url, query),
                        headers=headers,
                        content=body,
                        extensions=self._extensions(phase, min(CALL_READ_S, self._plan.timeouts.read)),
                    )
                )
            if on_answered:
                on_answered()
        self._check_proxy(reply.status)
        return reply

    async def upload(self, url: str, form: FormUpload) -> HttpReply:
        """Send a form, however long that takes. Raises OSError, too, when its file cannot be read."""
        phase = _Phase()
        headers = {n: v for n, v in self._plan.headers.items() if n.lower() != "content-type"}
        with self._translated(phase, url):
            reply = await self._read(
                self._client.build_request(
                    "POST",
                    self._url(url),
                    headers={**headers, "Accept": "application/json", **form.headers},
                    content=form,
                    extensions=self._extensions(phase, self._plan.timeouts.read),
                )
            )
        self._check_proxy(reply.status)
        return reply

    @contextlib.asynccontextmanager
    async def download(self, url: str, *, foreign: bool = False) -> AsyncIterator[Download]:
        """Open a body. Redirects are followed, without our headers where they lead to another host.

        `foreign`: the URL is the service's word, and taken as it is.
        """
        own = _origin(self._plan.base_url)
        target = url if foreign else str(self._url(url))
        for _ in range(_MAX_REDIRECTS + 1):
            phase = _Phase()
            headers = self._plan.headers if _origin(target) == own else {}
            with self._translated(phase, target):
                request = self._client.build_request(
                    "GET",
                    target,
                    headers={n: v for n, v in headers.items() if n.lower() != "content-type"},
                    extensions=self._extensions(phase, self._plan.timeouts.read),
                )
                response = await self._client.send(request, stream=True)
            try:
                where = _redirect(response, target)
                if where is None:
                    self._check_proxy(response.status_code)
                    async with contextlib.aclosing(self._pieces(response, phase)) as pieces:
                        yield Download(response.status_code, _headers(response), _is_framed(response), pieces)
                    return
            finally:
                await response.aclose()
            target = where
        raise SentFailed("redirected", f"redirected more than {_MAX_REDIRECTS} times")

    async def close(self) -> None:
        """Give up all connections."""
        await self._client.aclose()

    async def _read(self, request: httpx.Request) -> HttpReply:
        response = await self._client.send(request, stream=True)
        try:
            parts: list[bytes] = []
            size = 0
            async with contextlib.aclosing(_inflated(response)) as pieces:
                async for piece in pieces:
                    size += len(piece)
                    if size > MAX_REPLY:
                        raise SentFailed("response_too_large", f"the answer is larger than {MAX_REPLY} bytes")
                    parts.append(piece)
        finally:
            await response.aclose()
        return HttpReply(response.status_code, _headers(response), b"".join(parts))

    async def _pieces(self, response: httpx.Response, phase: _Phase) -> AsyncGenerator[bytes, None]:
        async with contextlib.aclosing(_inflated(response)) as pieces:
            while True:
                with self._translated(phase, str(response.url)):
                    piece = await anext(pieces, b"")
                if not piece:
                    return
                yield piece

    def _url(self, url: str, query: Mapping[str, str] | None = None) -> httpx.URL:
        with _as_not_sent(url):
            made, params = httpx.URL(url), {**self._plan.query, **(query or {})}
            return made.copy_merge_params(params) if params else made

    def _extensions(self, phase: _Phase, read: float) -> dict[str, Any]:
        limits = httpx.Timeout(connect=self._plan.timeouts.connect, read=read, write=read, pool=None)
        return {"trace": phase, "timeout": limits.as_dict()}

    def _check_proxy(self, status: int) -> None:
        """Raises NotSent for a reply of the proxy, which kept the request to itself."""
        if status == 407 and self._plan.proxy:
            raise NotSent("proxy", "it asks for a credential of its own", _address(self._plan.proxy))

    @contextlib.contextmanager
    def _translated(self, phase: _Phase, url: str, also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
        """Turn what httpx raises into NotSent or SentFailed."""
        try:
            yield
        except _RAISED + also as error:
            if phase.sent:
                raise _sent_failed(error, phase) from error
            raise _not_sent(error, url, self._plan.proxy) from error


async def _inflated(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    inflater = Inflater(response.headers.get("content-encoding", ""))
    received = 0
    async for data in response.aiter_raw():
        received += len(data)
        for piece in inflater.feed(data):
            yield piece
    inflater.finish(received)


def _is_framed(response: httpx.Response) -> bool:
    return "content-length" in response.headers or "transfer-encoding" in response.headers


def _headers(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _redirect(response: httpx.Response, url: httpx.URL | str) -> str | None:
    """Where a reply sends us. Raises SentFailed for a place where we do not go."""
    where = response.headers.get("location")
    if response.status_code not in {301, 302, 303, 307, 308} or not where:
        return None
    try:
        target: str = urljoin(str(url), where)
        scheme, host = urlsplit(target).scheme, urlsplit(target).hostname
    except ValueError:
        scheme, host = "", None
    if scheme not in {"http", "https"} or not host or (scheme == "http" and str(url).startswith("https:")):
        raise SentFailed("redirected", "redirected to an address that cannot be followed")
    return target


def _origin(url: httpx.URL | str) -> tuple[str, str, int | None]:
    """Scheme, host and port; a URL that cannot be read is of no origin."""
    try:
        parts = urlsplit(str(url))
        return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return "", "", None


def _proxy_tls(proxy: str, tls: ssl.SSLContext) -> ssl.SSLContext | None:
    return tls if urlsplit(proxy).scheme == "https" else None


def _address(url: str) -> str:
    _, host, port = _origin(url)
    return f"{host}:{port}"


@contextlib.contextmanager
def _as_not_sent(url: str) -> Iterator[None]:
    try:
        yield
    except (httpx.InvalidURL, ValueError) as error:
        raise NotSent("connect", "the address is not valid", _address(url)) from error


def _not_sent(error: Exception, url: str, proxy: str | None) -> NotSent:
    address = _address(proxy or url)
    if isinstance(error, httpx.ProxyError):
        return NotSent("proxy", f"the proxy answered {str(error)[:200]}", address)
    reason, detail = _connect_reason(error)
    if proxy and reason != "tls":
        return NotSent("proxy", detail, address)
    return NotSent(reason, detail, address)


def _connect_reason(error: Exception) -> tuple[str, str]:
    causes = list(_causes(error))
    if isinstance(error, httpx.ConnectTimeout | TimeoutError):
        return "connect_timeout", "no connection in time"
    for cause in causes:
        if isinstance(cause, socket.gaierror):
            return "dns", "the name cannot be resolved"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "tls", f"the certificate is not trusted: {cause.verify_message}"
    for cause in causes:
        number = getattr(cause, "errno", None)
        if isinstance(cause, ssl.SSLError):
            if not isinstance(cause, _UNFINISHED):
                return "tls", f"no TLS connection: {cause.reason or cause}"
        elif number == errno.ECONNREFUSED:
            return "refused", "connection refused"
        elif number in _UNREACHABLE:
            return "unreachable", str(getattr(cause, "strerror", None) or cause)
        elif number == errno.ETIMEDOUT:
            return "connect_timeout", "no connection in time"
    return "connect", f"no connection ({type(error).__name__})"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and all that led to it; anyio groups those of several addresses."""
    seen: set[int] = set()
    left = [error]
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        left += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions


def _sent_failed(error: Exception, phase: _Phase) -> SentFailed:
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return SentFailed("timeout", "the answer was not complete in time")
    if phase.answered:
        return SentFailed("truncated", "the connection ended in the middle of the answer")
    if isinstance(error, httpx.RemoteProtocolError) and "disconnected" not in str(error):
        return SentFailed("unparsable", "the answer is not HTTP")
    return SentFailed("reset", "the connection broke before an answer came")
