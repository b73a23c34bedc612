"""What merge counts over a task, in memory that does not grow with it."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_EXACT = 64  # milliseconds below this have a bucket each
_STEPS = 32  # buckets an octave above: a percentile is right within 1/32
_OCTAVES = 34


class Latencies:
    """A histogram of milliseconds with a fixed number of buckets."""

    def __init__(self) -> None:
        self._buckets = array("Q", bytes(8 * (_EXACT + _STEPS * _OCTAVES)))
        self.count = 0
        self.total = 0
        self.most = 0

    def add(self, ms: int) -> None:
        """Count one duration."""
        ms = max(ms, 0)
        self.count += 1
        self.total += ms
        self.most = max(self.most, ms)
        shift = ms.bit_length() - 6
        if shift > 0:
            ms = min(_EXACT + (shift - 1) * _STEPS + (ms >> shift) - _STEPS, len(self._buckets) - 1)
        self._buckets[ms] += 1

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


@dataclass(slots=True)
class Counts:
    """Records by outcome, and blank lines; for a chunk or a task."""

    input: int = 0
    output: int = 0
    error: int = 0
    missing: int = 0
    pending: int = 0
    blank: int = 0

    def add(self, other: Counts) -> None:
        """Count another part of the task in."""
        self.input += other.input
        self.output += other.output
        self.error += other.error
        self.missing += other.missing
        self.pending += other.pending
        self.blank += other.blank

    def to_json(self) -> dict[str, int]:
        """In the order of every other listing."""
        return {
            "input": self.input,
            "output": self.output,
            "error": self.error,
            "missing": self.missing,
            "pending": self.pending,
            "blank": self.blank,
        }


@dataclass(slots=True)
class Tally:
    """Sums over all journals of a task."""

    counts: Counts = field(default_factory=Counts)
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_unknown: int = 0  # answers that did not tell
    latencies: Latencies = field(default_factory=Latencies)  # of online calls
    attempts: int = 0  # tries of all records that ended, in all rounds
    failed: int = 0  # failed attempts that did not end their record
    retries: int = 0  # of these, those that used up a retry
    failures: Counter[str] = field(default_factory=Counter)  # failed attempts by class
    errors: Counter[str] = field(default_factory=Counter)  # records in the error file by class
    paths: Counter[str] = field(default_factory=Counter)  # answers by the way they came
    extras: int = 0  # terminal records beside the one that counts
    quarantined: int = 0  # damaged lines
    torn: int = 0  # journals whose last line was cut short


class Problems:
    """What speaks against the identity: all are counted, the first hundred are kept.

    `chunks` has the numbers of all chunks with problems, but never more than the first `KEPT_CHUNKS`.
    """

    KEPT = 100
    KEPT_CHUNKS = 10_000

    def __init__(self) -> None:
        self.count = 0
        self.chunks: set[int] = set()
        self.first: list[dict[str, Any]] = []

    def add(self, chunk: int | None, line: int | None, what: str, **detail: Any) -> None:
        """Note a problem with line `line` of the input; None: with the chunk, or the task, as a whole."""
        self.count += 1
        if chunk is not None and len(self.chunks) < self.KEPT_CHUNKS:
            self.chunks.add(chunk)
        if len(self.first) < self.KEPT:
            self.first.append({"chunk": chunk, "line": line, "what": what, **detail})
