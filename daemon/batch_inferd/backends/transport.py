"""The HTTP transport seam: one POST in, one reply out, or a failure that says whether anything was sent.

What was not sent costs nothing and may wait as long as it takes; what may have been sent may have been
billed. That is the only difference between the two exceptions, and the reason for having them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_inferd.backends.plan import Timeouts


class HttpReply(NamedTuple):
    """A reply that was read to its end. Header names are lower-case; the body is decompressed."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class TransportError(Exception):
    """The root. `reason` is one word of a small set, `detail` says it in words."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class NotSent(TransportError):  # noqa: N818  it is what happened, not an error of ours
    """Nothing of the request left this machine.

    `reason`: dns, refused, unreachable, tls, proxy, connect_timeout or connect. `address` is the
    host:port that could not be reached.
    """

    def __init__(self, reason: str, detail: str, address: str) -> None:
        super().__init__(reason, detail)
        self.address = address


class SentFailed(TransportError):  # noqa: N818
    """The request may have reached the service, and its answer was not read to the end.

    `reason`: reset, timeout, truncated, unparsable (no HTTP) or response_too_large.
    """


class HttpTransport(Protocol):
    """What the online backend sends its calls through."""

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
        """Send once, never again by itself; read at most `max_bytes` of decompressed body.

        Raises NotSent or SentFailed. Redirects are not followed, cookies not kept.
        """

    async def probe(self, base_url: str, proxy: str | None, timeout_s: float) -> None:
        """Connect to the service (or to its proxy) and hang up. Raises NotSent when that fails."""

    async def close(self) -> None:
        """Give up all connections."""
