"""The HTTP transport seam: one POST in, one reply out, or a failure that says whether anything was sent.

What was not sent costs nothing and may wait as long as it takes; what may have been sent may have been
billed. That is the only difference between the two exceptions, and the reason for having them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_inferd.backends.plan import Timeouts


class HttpReply(msgspec.Struct, frozen=True, gc=False):
    """A reply that was read to its end. Header names are lower-case; the body is decompressed."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Target:
    """Where calls go, and how: made once for a plan and an endpoint, then used for each of its calls.

    It is itself and equal to nothing else, so a transport may keep beside it what it makes of it once.
    `url` is complete, `proxy` already decided for it (None: go there directly), `max_bytes` bounds the
    decompressed answer.
    """

    __slots__ = ("__weakref__", "headers", "max_bytes", "proxy", "timeouts", "url")

    def __init__(
        self, url: str, headers: Mapping[str, str], timeouts: Timeouts, proxy: str | None, max_bytes: int
    ) -> None:
        self.url = url
        self.headers = headers
        self.timeouts = timeouts
        self.proxy = proxy
        self.max_bytes = max_bytes


LARGE = 64 * 1024  # bytes of an answer: clients read as much ahead, whoever asks


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


class Room(Protocol):
    """Where large answers ask for memory."""

    async def take(self, size: int) -> None:
        """Wait until `size` more bytes may be read."""


class HttpTransport(Protocol):
    """What the online backend sends its calls through."""

    async def post(self, target: Target, body: bytes, room: Room | None = None) -> HttpReply:
        """Send once, never again by itself; read at most `target.max_bytes` of decompressed body.

        An answer of more than `LARGE` bytes takes its room before it is read on.
        Raises NotSent or SentFailed. Redirects are not followed, cookies not kept.
        """

    async def probe(self, base_url: str, proxy: str | None, timeout_s: float) -> None:
        """Connect to the service (or to its proxy) and hang up. Raises NotSent when that fails."""

    async def close(self) -> None:
        """Give up all connections."""
