"""A connected client, as a request's handler sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol


class Peer(Protocol):
    """The client that asked."""

    @property
    def closed(self) -> bool:
        """Whether it has hung up."""

    def push(self, key: str, message: dict[str, Any]) -> None:
        """Send a notification (`rpc.notification(…)`), now or as soon as the client has read enough.

        What waits is kept once a key, the latest: a client that does not read costs a bounded amount of
        memory, and then sees the newest state. So a message must be whole under its key: a delta of one
        task goes under that task's key. Over 1,024 keys the oldest is dropped. Never raises.
        """

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call `callback` once when the client has hung up; at once if it has."""


Handler = Callable[[dict[str, Any], Peer], Awaitable[Any]]
"""`async def handler(params, peer) -> result`: plain JSON, or a BatchInferError raised for the client."""
