"""Dividing a rate, or bytes in flight, among workers by weights, so that the sum never passes the whole.

As for slots: less is told at once, and counts when the worker says that it goes by it; only then is it
given on. What workers are told is numbered, and their reports name the last number that they have heard.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_EXACT = 4  # significant digits: smaller changes are not worth a message
_UNHEARD_MAX = 64
_LATE_WEIGHT = 0.25  # of the least, for a worker with something left to send and no chunk on record


class Shares:
    """Who holds how much. Workers are known by name."""

    def __init__(self) -> None:
        # Number and value, from what a worker goes by to what it was told last.
        self._told: dict[str, deque[tuple[int, float]]] = {}
        self._used: dict[str, float] = {}  # what it has in use whatever it was told

    def divide(self, whole: float, weights: Mapping[str, float], word: int) -> dict[str, float]:
        """What each worker is told now, of `whole`; `word` numbers it, and grows with each call."""
        total = sum(weights.values())
        due = {name: _rounded(whole * weight / total) if total else 0.0 for name, weight in weights.items()}
        return self.assign(whole, due, word)

    def assign(self, whole: float, due: Mapping[str, float], word: int) -> dict[str, float]:
        """The same, for shares that were worked out already; they may be given in part at first."""
        for name, share in due.items():
            if share < self._last(name):
                self._tell(name, share, word)
        for name, share in due.items():
            last = self._last(name)
            if share > last:
                free = whole - sum(self._held(other) for other in self._told if other != name)
                self._tell(name, max(last, share if share <= free else _rounded(free)), word)
        return {name: self._last(name) for name in due}

    def reported(self, worker: str, word: int, used: float = 0.0) -> None:
        """A worker says which word it heard last, and what it has in use."""
        told = self._told.get(worker)
        if told is None:
            return
        self._used[worker] = used
        while len(told) > 1 and told[1][0] <= word:
            told.popleft()

    def leave(self, worker: str, word: int) -> bool:
        """A worker that ends has no share any more; whether that is news, and it must be told so.

        What it has in use is held by it still, until it reports that it is over.
        """
        had = worker in self._told and self._last(worker) > 0
        if had:
            self._tell(worker, 0.0, word)
        return had

    def gone(self, worker: str) -> None:
        """A worker has ended: its share is free."""
        self._told.pop(worker, None)
        self._used.pop(worker, None)

    def _last(self, worker: str) -> float:
        return self._told.setdefault(worker, deque([(0, 0.0)]))[-1][1]

    def _held(self, worker: str) -> float:
        return max(self._used.get(worker, 0.0), *(value for _, value in self._told[worker]))

    def _tell(self, worker: str, value: float, word: int) -> None:
        told = self._told[worker]
        if value == told[-1][1]:
            return
        told.append((word, value))
        if len(told) > _UNHEARD_MAX:  # a worker that says nothing: the most that it may go by
            oldest, next_one = told.popleft(), told.popleft()
            told.appendleft((next_one[0], max(oldest[1], next_one[1])))


def _rounded(value: float) -> float:
    """Down to a few significant digits."""
    if value <= 0:
        return 0.0
    exact = float(f"{value:.{_EXACT - 1}e}")
    return exact if exact <= value else float(f"{value * (1 - 10.0 ** (1 - _EXACT)):.{_EXACT - 1}e}")


def with_late(weights: dict[str, float], workers: Iterable[str]) -> dict[str, float]:
    """`weights`, and a small one for those of `workers` that have none: they have something to send."""
    least = min((weight for weight in weights.values() if weight), default=1.0) * _LATE_WEIGHT
    return weights | {name: least for name in workers if not weights.get(name)}
