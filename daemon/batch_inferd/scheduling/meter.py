"""Counts of the last seconds: sums that fade, and rates of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_FADES_S = 2.0
_SHORTEST_S = 0.1


class Meter:
    """Faded sums of the counts in reports. `seconds` is how long they are measured over."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self.seconds = 0.0

    def pass_by(self, seconds: float) -> None:
        """Time in which calls could be sent has passed."""
        kept = math.exp(-seconds / _FADES_S)
        for name in self._sums:
            self._sums[name] *= kept
        self.seconds = self.seconds * kept + seconds

    def add(self, seen: Mapping[str, Any], names: tuple[str, ...]) -> None:
        """Count what a report says."""
        for name in names:
            self._sums[name] = self._sums.get(name, 0.0) + int(seen.get(name) or 0)

    def forget(self, *names: str) -> None:
        """Count anew."""
        for name in names:
            self._sums.pop(name, None)

    def __getitem__(self, name: str) -> float:
        return self._sums.get(name, 0.0)

    def rate(self, name: str) -> float:
        """So many a second of late."""
        return self[name] / max(self.seconds, _SHORTEST_S)
