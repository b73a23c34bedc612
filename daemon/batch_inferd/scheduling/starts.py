"""First calls of workers that get a share of a rate: spaced as if one worker made all the account's calls.

A worker paces its own calls, but the first one has none before it that it could keep its distance from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Starts:
    """Who has a share, and when the next one that joins may make its first call. Times are monotonic."""

    def __init__(self) -> None:
        self._sharing: frozenset[str] = frozenset()
        self._due = 0.0

    def waits(self, rates: Mapping[str, float], whole: float | None, now: float) -> dict[str, float]:
        """Seconds that each worker that joins has to wait before its first call.

        `rates` are the shares of `whole`, in calls a second, that workers are told now.
        """
        waits: dict[str, float] = {}
        if whole is not None:
            interval = 1 / whole
            if self._sharing:
                self._due = max(self._due, now + interval)  # who has a share may just have made a call
            for name, rate in rates.items():
                if rate and name not in self._sharing:
                    start = max(now, self._due)
                    self._due = start + interval
                    waits[name] = start - now
        self._sharing = frozenset(name for name, rate in rates.items() if rate)
        return waits
