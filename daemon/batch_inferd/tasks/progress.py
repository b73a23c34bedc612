"""Counting a task's progress: what is sealed, what is under way, how fast, and how long it may take."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from batch_inferd.store.taskdb import COUNTED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_inferd.store.submissions import Change
    from batch_inferd.store.taskdb import ChunkRow, Totals

_WINDOW_S = 20.0
_SAMPLE_S = 0.5


class Progress:
    """The sums over all chunks. Leased chunks count by what their worker reported last."""

    def __init__(self) -> None:
        self.chunks = dict.fromkeys(("ready", "leased", "done"), 0)
        self.records = 0
        self.blank = 0
        self.lines = 0
        self.settled = dict.fromkeys(COUNTED, 0)  # chunks that are not leased
        self._live: dict[str, dict[str, int]] = {}  # lease -> counters
        self._samples: deque[tuple[float, int]] = deque()

    def load(self, totals: dict[str, Totals]) -> None:
        """Begin with the database's sums."""
        for state, sums in totals.items():
            self.chunks[state] = sums.chunks
            self.records += sums.records
            self.blank += sums.blank
            self.lines += sums.lines
            for name in COUNTED:
                self.settled[name] += getattr(sums, name)

    def cut(self, rows: list[ChunkRow]) -> None:
        """Chunks were cut."""
        for row in rows:
            self.chunks[row.state] += 1
            self.records += row.records
            self.blank += row.blank
            self.lines += row.lines

    def leased(self, lease: str, row: ChunkRow) -> None:
        """A ready chunk went to a worker."""
        self.chunks["ready"] -= 1
        self.chunks["leased"] += 1
        live = {name: int(getattr(row, name)) for name in COUNTED}
        for name, value in live.items():
            self.settled[name] -= value
        self._live[lease] = live | {"in_flight": 0, "waiting": 0}

    def report(self, lease: str, counters: dict[str, Any]) -> None:
        """A worker's counters of a lease."""
        live = self._live.get(lease)
        if live is not None:
            for name in (*COUNTED, "in_flight", "waiting"):
                if name in counters:
                    live[name] = int(counters[name])

    def ended(self, lease: str, state: str, counters: dict[str, Any] | None) -> dict[str, int] | None:
        """A lease ended and its chunk became `state`; returns the counts to store with it."""
        if counters:
            self.report(lease, counters)
        live = self._live.pop(lease, None)
        if live is None:
            return None
        self.chunks["leased"] -= 1
        self.chunks[state] += 1
        for name in COUNTED:
            self.settled[name] += live[name]
        return {name: live[name] for name in COUNTED}

    def finished_open(self, row: ChunkRow, counts: dict[str, int]) -> None:
        """A chunk was closed without a lease (a cancelled task)."""
        self.chunks[row.state] -= 1
        self.chunks["done"] += 1
        for name in COUNTED:
            self.settled[name] += counts.get(name, 0) - int(getattr(row, name))

    def changed(self, changes: Iterable[Change]) -> None:
        """Chunks changed without a lease: they were packed into submissions, or results came."""
        for before, after in changes:
            self.chunks[before.state] -= 1
            self.chunks[after.state] += 1
            for name in COUNTED:
                self.settled[name] += getattr(after, name) - getattr(before, name)

    def reopened(self, totals: dict[str, Totals]) -> None:
        """`-retry` opened chunks again: start from the database's sums."""
        self.chunks = dict.fromkeys(self.chunks, 0)
        self.records = self.blank = self.lines = 0
        self.settled = dict.fromkeys(COUNTED, 0)
        self._samples.clear()
        self.load(totals)

    def total(self, name: str) -> int:
        """A counted name (or in_flight, waiting) over all chunks."""
        return self.settled.get(name, 0) + sum(live[name] for live in self._live.values())

    def live(self, lease: str) -> dict[str, int]:
        """The newest counters of a lease."""
        return self._live.get(lease, {})

    @property
    def terminal(self) -> int:
        """Records that ended."""
        return sum(self.total(name) for name in ("answered", "error", "missing"))

    def counts(self) -> dict[str, int]:
        """The `counts` of a summary."""
        output, error, missing = (self.total(name) for name in ("answered", "error", "missing"))
        return {
            "input": self.records,
            "output": output,
            "error": error,
            "missing": missing,
            "pending": max(0, self.records - output - error - missing),
            "blank": self.blank,
        }

    def sample(self, now: float) -> None:
        """Note how far it is at monotonic time `now`; called while the task runs."""
        if self._samples and now - self._samples[-1][0] < _SAMPLE_S:
            return
        self._samples.append((now, self.terminal))
        while len(self._samples) > 2 and now - self._samples[0][0] > _WINDOW_S:
            self._samples.popleft()

    def rate(self) -> float:
        """Records that ended a second, over the last 20 s."""
        if len(self._samples) < 2:
            return 0.0
        (t0, n0), (t1, n1) = self._samples[0], self._samples[-1]
        return max(0.0, (n1 - n0) / (t1 - t0)) if t1 > t0 else 0.0

    def expected(self, read: int, total: int, complete: bool, limit: int) -> int:
        """How many records the whole task will have, by the bytes that were cut so far."""
        if complete or not read:
            return self.records
        guess = int(self.records * total / read)
        return max(self.records, min(guess, limit) if limit else guess)
