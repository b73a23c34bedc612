"""Whether a service, or the proxy that leads to it, takes connections: connect, and hang up."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from urllib.parse import urlsplit

from batch_inferd.backends.dialling import dial
from batch_inferd.backends.route import PORTS
from batch_inferd.backends.transport import NotSent

_REFUSED = frozenset({errno.ECONNREFUSED, getattr(errno, "WSAECONNREFUSED", errno.ECONNREFUSED)})
_UNREACHABLE = frozenset(
    getattr(errno, name)
    for name in (
        "ENETUNREACH", "EHOSTUNREACH", "ENETDOWN", "EADDRNOTAVAIL",
        "WSAENETUNREACH", "WSAEHOSTUNREACH", "WSAENETDOWN", "WSAEADDRNOTAVAIL",
    )
    if hasattr(errno, name)
)  # fmt: skip
_LATE = frozenset({errno.ETIMEDOUT, getattr(errno, "WSAETIMEDOUT", errno.ETIMEDOUT)})


async def probe(base_url: str, proxy: str | None, timeout_s: float) -> None:
    """See `HttpTransport.probe`. With TLS and no proxy, the handshake is part of it."""
    peer = urlsplit(proxy or base_url)
    host, port = peer.hostname or "", PORTS.get(peer.scheme, 443)
    tls = ssl.create_default_context() if peer.scheme == "https" else None
    try:
        port = peer.port or port
        async with asyncio.timeout(timeout_s):
            transport, _ = await dial(asyncio.Protocol, host, port, tls)
    except (OSError, ValueError) as error:  # a TimeoutError is one of the first
        reason, detail = reason_of(error)
        if proxy is not None and reason != "tls":
            reason = "proxy"
        raise NotSent(reason, detail, f"{host}:{port}") from error
    transport.abort()  # nothing is owed to the other side of a probe


def reason_of(error: Exception) -> tuple[str, str]:
    """Reason and detail, as NotSent has them, of a connection that did not come about."""
    if isinstance(error, TimeoutError) and not error.errno:
        return "connect_timeout", "no connection in time"
    if isinstance(error, socket.gaierror):
        return "dns", "the name cannot be resolved"
    if isinstance(error, ssl.SSLCertVerificationError):
        return "tls", f"the certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "tls", f"no TLS connection: {error.reason or error}"
    number = getattr(error, "errno", None) or 0
    return _reason_of_number(number, getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _reason_of_number(number: int, words: str) -> tuple[str, str]:
    if number in _REFUSED:
        return "refused", "connection refused"
    if number in _UNREACHABLE:
        return "unreachable", words
    if number in _LATE:
        return "connect_timeout", "no connection in time"
    return "connect", words
