"""The brake: a service that fails most calls is not asked at full speed, or all retries are used up at once.

It is put on when most calls of an epoch failed without a word on why (5xx, resets, timeouts), and let go
as soon as most come through again; each epoch halves or doubles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

EPOCH_S = 1.0
_ENOUGH = 10  # failures in one epoch that put it on
_ENOUGH_BRAKING = 3  # and that put it on harder
_LEAST_SHARE = 1 / 64
_LEAST_RATE = 5.0  # calls a second


class Brake:
    """`share` of the account's window that is left; `rate` in calls a second, None while it is not on."""

    def __init__(self) -> None:
        self.share = 1.0
        self._full_rate = 0.0  # calls a second before it was put on
        self._ok = 0
        self._broken = 0
        self._epoch_end = 0.0

    @property
    def rate(self) -> float | None:
        """Calls a second that are left."""
        return None if self.share == 1.0 else max(_LEAST_RATE, self._full_rate * self.share)

    def observe(self, seen: Mapping[str, Any], sent_per_s: float, now: float) -> None:
        """A worker's report, and the calls that are sent a second."""
        self._broken += int(seen.get("broken", 0))
        self._ok += int(seen.get("ok", 0)) + int(seen.get("failed", 0)) - int(seen.get("broken", 0))
        enough = _ENOUGH if self.share == 1.0 else _ENOUGH_BRAKING
        if now < self._epoch_end or self._ok + self._broken < enough:
            return
        if self._broken > self._ok:
            if self.share == 1.0:
                self._full_rate = sent_per_s
            self.share = max(_LEAST_SHARE, self.share / 2)
        else:
            self.share = min(1.0, self.share * 2)
        self._ok = self._broken = 0
        self._epoch_end = now + EPOCH_S
