"""What every transport offers: a blocking byte channel to the client, a listener to the daemon."""

from __future__ import annotations

from typing import Protocol


class Channel(Protocol):
    """A connected stream of bytes, used by one thread."""

    def send(self, data: bytes, timeout: float) -> None:
        """Send all of `data` within `timeout` seconds. Raises OSError (TimeoutError among them)."""

    def receive(self, size: int, timeout: float) -> bytes:
        """At most `size` bytes, b"" at the end. Raises OSError; TimeoutError when none came in time."""

    def close(self) -> None:
        """Hang up. Twice is once."""


class Listener(Protocol):
    """An open endpoint. Accepting is the daemon's business (`batch_inferd.server.accept`)."""

    @property
    def endpoint(self) -> str:
        """What clients are told, kind included."""

    def present(self) -> bool:
        """Whether new clients can still find it."""

    def withdraw(self) -> None:
        """Let no new client find it. What is not ours by now is left alone."""

    def close(self) -> None:
        """Stop listening, after `withdraw`."""
