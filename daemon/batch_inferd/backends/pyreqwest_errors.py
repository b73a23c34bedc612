"""What pyreqwest raises, as NotSent or SentFailed.

Its exception classes do not tell a connect from a wait for the answer: both end in a ConnectTimeoutError.
The chain of causes does. The HTTP client underneath marks everything that happened before a connection
stood, TLS and the proxy's tunnel included, with one cause of its own. Whatever lacks it may have been sent.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pyreqwest.exceptions import (
    BodyDecodeError,
    DecodeError,
    DetailedPyreqwestError,
    PyreqwestError,
    ReadError,
    RequestTimeoutError,
)

from batch_inferd.backends.probe import AUTHORITYS_OWN, reason_of
from batch_inferd.backends.transport import NotSent, SentFailed

if TYPE_CHECKING:
    from batch_inferd.backends.transport import Target, TransportError

_CONNECTING = "client error (Connect)"
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_PORTS = {"http": 80, "https": 443}
_TUNNEL = "tunnel error: "
_CERTIFICATE = "invalid peer certificate: "
_BODY = "request or response body error"  # ours is bytes, and has none
_NO_ANSWER = "connection closed before message completed"


def translate(error: PyreqwestError, target: Target) -> TransportError:
    """The exception that `HttpTransport.post` raises in place of this one."""
    causes = _causes(error)
    if _CONNECTING in causes:
        return _not_sent(error, causes[causes.index(_CONNECTING) + 1 :], target)
    return _sent_failed(error, causes)


def _causes(error: PyreqwestError) -> list[str]:
    if not isinstance(error, DetailedPyreqwestError):
        return []
    return [cause["message"] for cause in error.details["causes"] or []]


def _not_sent(error: PyreqwestError, causes: list[str], target: Target) -> NotSent:
    peer = urlsplit(target.proxy or target.url)
    host = f"[{peer.hostname}]" if ":" in (peer.hostname or "") else peer.hostname
    address = f"{host}:{peer.port or _PORTS.get(peer.scheme, 443)}"
    reason, detail = _connect_reason(error, causes, target)
    if target.proxy and reason != "tls":
        reason = "proxy"
    return NotSent(reason, detail, address)


def _connect_reason(error: PyreqwestError, causes: list[str], target: Target) -> tuple[str, str]:
    last = causes[-1] if causes else str(error)
    for cause in causes:
        if cause.startswith(_CERTIFICATE):
            words = AUTHORITYS_OWN if "CaUsedAsEndEntity" in cause else cause.removeprefix(_CERTIFICATE)
            return "tls", f"the certificate is not trusted: {words}"
        if cause.startswith("dns error"):
            return "dns", "the name cannot be resolved"
        if found := _OS_ERROR.search(cause):
            return reason_of(int(found[1]), _OS_ERROR.sub("", cause).strip())
    if isinstance(error, RequestTimeoutError):
        return "connect_timeout", "no connection in time"
    if last == _TUNNEL + "proxy authorization required":
        return "proxy", "it asks for a credential of its own"
    if last.startswith(_TUNNEL):
        return "proxy", f"it did not open a tunnel: {last.removeprefix(_TUNNEL)}"
    if target.url.startswith("https:"):
        return "tls", f"no TLS connection: {last}"
    return "connect", last


def _sent_failed(error: PyreqwestError, causes: list[str]) -> SentFailed:
    if isinstance(error, RequestTimeoutError):
        return SentFailed("timeout", "the answer, or its next byte, did not come in time")
    if isinstance(error, BodyDecodeError | ReadError) or _BODY in causes:
        return SentFailed("truncated", f"the answer ended in its middle: {causes[-1] if causes else error}")
    if isinstance(error, DecodeError):
        return SentFailed(
            "unparsable", f"the answer is not HTTP: {(causes[-1] if causes else str(error))[:200]}"
        )
    if _NO_ANSWER in causes:
        return SentFailed("reset", "the service closed the connection without an answer")
    return SentFailed("reset", "the connection broke")
