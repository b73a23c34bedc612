"""Whether a service, or the proxy that leads to it, takes connections: connect, and hang up."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from urllib.parse import urlsplit

from batch_inferd.backends.dialling import dial
from batch_inferd.backends.transport import NotSent

AUTHORITYS_OWN = "it is an authority's (CA:TRUE), and cannot also be a server's; make one with CA:FALSE"
_PORTS = {"http": 80, "https": 443}
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
    host, port = peer.hostname or "", _PORTS.get(peer.scheme, 443)
    tls = ssl.create_default_context() if peer.scheme == "https" else None
    try:
        port = peer.port or port
        async with asyncio.timeout(timeout_s):
            writer = await dial(host, port, tls)
    except (OSError, ValueError) as error:  # a TimeoutError is one of the first
        reason, detail = _reason(error)
        if proxy is not None and reason != "tls":
            reason = "proxy"
        raise NotSent(reason, detail, f"{host}:{port}") from error
    handshake = writer.get_extra_info("ssl_object")
    writer.transport.abort()  # nothing is owed to the other side of a probe
    # The calls go through another TLS library, which is stricter about a self-signed certificate.
    if tls and handshake.getpeercert(binary_form=True) in tls.get_ca_certs(binary_form=True):
        raise NotSent("tls", f"the certificate is not trusted: {AUTHORITYS_OWN}", f"{host}:{port}")


def reason_of(number: int, words: str) -> tuple[str, str]:
    """Reason and detail of a connection that failed with this errno; `words` say it otherwise."""
    if number in _REFUSED:
        return "refused", "connection refused"
    if number in _UNREACHABLE:
        return "unreachable", words
    if number in _LATE:
        return "connect_timeout", "no connection in time"
    return "connect", words


def _reason(error: Exception) -> tuple[str, str]:
    if isinstance(error, TimeoutError) and not error.errno:
        return "connect_timeout", "no connection in time"
    if isinstance(error, socket.gaierror):
        return "dns", "the name cannot be resolved"
    if isinstance(error, ssl.SSLCertVerificationError):
        return "tls", f"the certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "tls", f"no TLS connection: {error.reason or error}"
    number = getattr(error, "errno", None) or 0
    return reason_of(number, getattr(error, "strerror", None) or str(error) or type(error).__name__)
