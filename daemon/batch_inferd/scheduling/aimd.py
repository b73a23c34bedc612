"""Adaptive concurrency: additive increase, multiplicative decrease, with slow start.

The window grows only when it was used, is cut once an epoch however many 429s arrive together (they
are echoes of one overload), and never passes `maximum`. Until the first cut it grows by half an epoch;
after it by a twentieth, at least one. Pure: time comes in with each call.
"""

from __future__ import annotations

CUT = 0.7
SLOW_START_GROWTH = 1.5
STEADY_GROWTH = 0.05
USED = 0.9  # a window counts as used when its peak reached this share of it
EPOCH_S = 2.0


class Aimd:
    """The concurrency window of one account."""

    def __init__(self, start: int, maximum: int) -> None:
        self._maximum = max(1, maximum)
        self._window = float(min(max(1, start), self._maximum))
        self._slow_start = True
        self._epoch_end = 0.0
        self._used = False
        self._clean = 0  # answers without a 429 in this epoch

    @property
    def window(self) -> int:
        """How many calls may be in flight."""
        return max(1, int(self._window))

    def set_bounds(self, start: int, maximum: int) -> None:
        """The limits of the tasks on the account changed: the window follows at once."""
        self._maximum = max(1, maximum)
        if self._slow_start:
            self._window = max(self._window, float(start))
        self._window = min(self._window, float(self._maximum))

    def observe(self, *, ok: int, throttled: int, peak: int, now: float) -> None:
        """What happened since the last call: answers, 429s, and the highest number in flight."""
        self._used = self._used or peak >= self._window * USED
        if throttled:
            if now >= self._epoch_end or self._slow_start:
                self._window = max(1.0, self._window * CUT)
                self._slow_start = False
                self._epoch_end = now + EPOCH_S
                self._used = False
            self._clean = 0
            return
        self._clean += ok
        if now < self._epoch_end or not self._clean:
            return
        if self._used:
            growth = (
                self._window * (SLOW_START_GROWTH - 1) if self._slow_start else self._window * STEADY_GROWTH
            )
            self._window = min(float(self._maximum), self._window + max(1.0, growth))
        self._epoch_end = now + EPOCH_S
        self._used = False
        self._clean = 0
