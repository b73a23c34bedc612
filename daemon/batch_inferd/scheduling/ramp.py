"""The first seconds of an account: calls start in growing numbers, not all at once.

Nobody knows yet what the service takes. A start at full width against a small limit is a wave of 429s;
a start that doubles each second, and sooner where answers come fast, loses next to nothing.
"""

from __future__ import annotations

FIRST = 8  # calls in flight at once
_DOUBLES_S = 1.0


class Ramp:
    """How many calls may be in flight while it lasts: until the full width, or the first 429."""

    def __init__(self) -> None:
        self._answered = 0
        self._begun: float | None = None  # monotonic
        self._over = False

    def begin(self, now: float) -> None:
        """Something is to be sent."""
        if self._begun is None:
            self._begun = now

    def bound(self, window: int, now: float) -> int:
        """`window`, or less."""
        if self._over or self._begun is None:
            return window if self._over else min(window, FIRST)
        most = int(FIRST * 2.0 ** min((now - self._begun) / _DOUBLES_S, 32.0)) + self._answered
        self._over = most >= window
        return min(window, most)

    def answered(self, number: int) -> None:
        """So many answers came: as many more may be in flight."""
        self._answered += number

    def end(self) -> None:
        """The service has spoken: what it takes is found out otherwise now."""
        self._over = True
