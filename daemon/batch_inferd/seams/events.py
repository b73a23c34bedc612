"""The event seam: what happens is emitted by name; logs, metrics and tracing subscribe."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

Subscriber = Callable[[str, dict[str, Any]], None]

_log = logging.getLogger(__name__)


class Events:
    """A synchronous bus. A subscriber that raises is logged, and never disturbs the emitter."""

    def __init__(self) -> None:
        self._subscribers: list[Subscriber] = []

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber(name, fields)` at every event; returns the way out."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    def emit(self, name: str, **fields: Any) -> None:
        """Tell all subscribers that `name` happened (dotted lower-case: `chunk.sealed`)."""
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(name, fields)
            except Exception:  # noqa: BLE001  whatever it is, the emitter goes on
                _log.exception("a subscriber failed at %s", name)
