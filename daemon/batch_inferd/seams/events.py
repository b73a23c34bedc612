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
        self._subscribers: list[tuple[Subscriber, frozenset[str] | None]] = []
        self._heard: dict[str, bool] = {}

    def subscribe(self, subscriber: Subscriber, names: frozenset[str] | None = None) -> Callable[[], None]:
        """Call `subscriber(name, fields)` at every event, or at those in `names`; returns the way out."""
        entry = (subscriber, names)
        self._subscribers.append(entry)
        self._heard.clear()
        return lambda: self._leave(entry)

    def _leave(self, entry: tuple[Subscriber, frozenset[str] | None]) -> None:
        self._subscribers.remove(entry)
        self._heard.clear()

    def heard(self, name: str) -> bool:
        """Whether anybody listens for `name`: asked before what happens thousands of times a second."""
        heard = self._heard.get(name)
        if heard is None:
            heard = any(names is None or name in names for _, names in self._subscribers)
            self._heard[name] = heard
        return heard

    def emit(self, name: str, **fields: Any) -> None:
        """Tell all subscribers that `name` happened (dotted lower-case: `chunk.sealed`)."""
        for subscriber, names in tuple(self._subscribers):
            if names is not None and name not in names:
                continue
            try:
                subscriber(name, fields)
            except Exception:  # noqa: BLE001  whatever it is, the emitter goes on
                _log.exception("a subscriber failed at %s", name)
