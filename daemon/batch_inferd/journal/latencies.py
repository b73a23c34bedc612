"""A histogram of how long calls took, in memory that does not grow with their number."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_EXACT = 64  # milliseconds below this have a bucket each
_STEPS = 32  # buckets an octave above: a percentile is right within 1/32
_OCTAVES = 34
BUCKETS = _EXACT + _STEPS * _OCTAVES


class Latencies:
    """A histogram of milliseconds with a fixed number of buckets."""

    def __init__(self) -> None:
        self._buckets = array("Q", bytes(8 * BUCKETS))
        self.count = 0
        self.total = 0
        self.most = 0

    def add(self, ms: int) -> None:
        """Count one duration."""
        ms = max(ms, 0)
        self.count += 1
        self.total += ms
        self.most = max(self.most, ms)
        self._buckets[bucket_of(ms)] += 1

    def add_buckets(self, buckets: Iterable[tuple[int, int]], total: int, most: int) -> None:
        """Count durations that were counted before: (bucket, number) each, their sum, the longest."""
        for bucket, number in buckets:
            self._buckets[bucket] += number
            self.count += number
        self.total += total
        self.most = max(self.most, most)

    def percentile(self, share: float) -> int | None:
        """The milliseconds that `share` (0 to 1) of all durations do not pass; None without any."""
        if not self.count:
            return None
        wanted = max(1, share * self.count)
        seen = 0
        for bucket, count in enumerate(self._buckets):
            seen += count
            if seen >= wanted:
                return min(self._upper(bucket), self.most)
        return self.most

    @staticmethod
    def _upper(bucket: int) -> int:
        if bucket < _EXACT:
            return bucket
        shift, step = divmod(bucket - _EXACT, _STEPS)
        return ((step + _STEPS + 1) << (shift + 1)) - 1

    def to_json(self) -> dict[str, int | float | None]:
        """Milliseconds: mean, percentiles and the longest; null without any."""
        return {
            "mean": round(self.total / self.count, 1) if self.count else None,
            "p50": self.percentile(0.5),
            "p90": self.percentile(0.9),
            "p99": self.percentile(0.99),
            "max": self.most if self.count else None,
        }


def bucket_of(ms: int) -> int:
    """The bucket of a duration that is not negative."""
    shift = ms.bit_length() - 6
    if shift > 0:
        return min(_EXACT + (shift - 1) * _STEPS + (ms >> shift) - _STEPS, BUCKETS - 1)
    return ms


def count_buckets(durations: Iterable[int]) -> dict[int, int]:
    """How many of these durations (ms, none negative) fall into each bucket."""
    found: Counter[int] = Counter()
    for ms, number in Counter(durations).items():
        found[bucket_of(ms)] += number
    return dict(found)
