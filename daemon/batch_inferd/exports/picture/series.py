"""What happened when: the entries of journals in columns of time, in memory that does not grow.

Columns are kept only where something happened, and are as wide as it takes to have few of them: a pause
of a week costs nothing.
"""

from __future__ import annotations

from collections import Counter

from batch_inferd.journal.format import Answer, Attempt, Failure, Missing
from batch_inferd.journal.latencies import Latencies, bucket_of

Event = Answer | Failure | Missing | Attempt

FINEST_S = 0.125
MOST = 320  # columns that hold something
_END_OF_TIME = 253_000_000_000.0  # seconds since 1970, in the year 9987: a later date cannot be written


class Column:
    """What ended within a column's time."""

    __slots__ = ("_buckets", "_most", "answers", "ended", "failed", "since", "until")

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()  # by the way they came: online or batch
        self.failed: Counter[str] = Counter()  # attempts that were not the last ones, by class
        self.ended: Counter[str] = Counter()  # records that ended without an answer, by class
        # When the first of all that ended here began, and when the last one ended, in seconds since 1970.
        self.since, self.until = _END_OF_TIME, 0.0
        self._buckets: Counter[int] = Counter()
        self._most = 0

    def add_latency(self, ms: int) -> None:
        """Count the duration of an online call."""
        self._buckets[bucket_of(ms)] += 1
        self._most = max(self._most, ms)

    def add(self, other: Column) -> None:
        """Take another column in."""
        self.answers.update(other.answers)
        self.failed.update(other.failed)
        self.ended.update(other.ended)
        self.since, self.until = min(self.since, other.since), max(self.until, other.until)
        self._buckets.update(other._buckets)
        self._most = max(self._most, other._most)

    @property
    def events(self) -> int:
        """How many things happened."""
        return self.answers.total() + self.failed.total() + self.ended.total()

    def latencies(self) -> Latencies:
        """The durations of online calls; their sum is not kept."""
        found = Latencies()
        found.add_buckets(self._buckets.items(), 0, self._most)
        return found


class Series:
    """Columns by number: column n holds the time from `n * width` on, for `width` seconds."""

    def __init__(self, most: int = MOST) -> None:
        self.width = FINEST_S
        self.columns: dict[int, Column] = {}
        self._most = most

    def add(self, entry: Event) -> None:
        """The next entry of a journal, in any order."""
        t = min(max(entry.t, 0.0), _END_OF_TIME)
        column = self._at(t)
        column.since, column.until = min(column.since, t), max(column.until, t)
        match entry:
            case Answer():
                ms = max(0, entry.ms)
                column.answers[entry.path] += 1
                column.since = max(0.0, min(column.since, t - ms / 1000))
                if entry.path == "online":  # the age of a batch is no latency
                    column.add_latency(ms)
            case Failure():
                column.ended[entry.failure] += 1
            case Missing():
                column.ended["missing"] += 1
            case Attempt():
                column.failed[entry.failure] += 1

    def _at(self, t: float) -> Column:
        number = int(t // self.width)
        column = self.columns.get(number)
        if column is None:
            column = self.columns[number] = Column()
            while len(self.columns) > self._most:
                self.widen()
            column = self.columns[int(t // self.width)]
        return column

    def widen(self) -> None:
        """Make each two columns one of twice the width."""
        self.width *= 2
        before, self.columns = self.columns, {}
        for number, column in before.items():
            known = self.columns.setdefault(number // 2, column)
            if known is not column:
                known.add(column)

    def whole(self) -> Column:
        """All columns as one."""
        found = Column()
        for column in self.columns.values():
            found.add(column)
        return found
