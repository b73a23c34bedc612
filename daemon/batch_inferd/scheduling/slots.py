"""Dividing an account's window among workers so that their sum never passes it.

Taking slots away is told at once, but counts as done only when the worker says that it has heard of it,
and how many calls it still has in flight; until then those slots are not given to another worker.
"""

from __future__ import annotations

from typing import NamedTuple


class Share(NamedTuple):
    """`due`: what a worker will have; `now`: what it may be told already."""

    due: int
    now: int


class Slots:
    """Who holds how much of one account's window. Workers are known by name."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}
        self._held: dict[str, int] = {}  # what each may have in flight, as far as is known here

    def divide(self, window: int, workers: list[str]) -> dict[str, Share]:
        """Equal shares of `window`; with more workers than slots, the last ones get none."""
        usable = max(1, min(window, len(workers)))
        due = {
            name: window // usable + (index < window % usable) if index < usable else 0
            for index, name in enumerate(workers)
        }
        for name in workers:
            if due[name] < self._told.get(name, 0):
                self._told[name] = due[name]  # held stays until the worker has answered
        shares: dict[str, Share] = {}
        for name in workers:
            told = self._told.get(name, 0)
            others = sum(held for other, held in self._held.items() if other != name)
            now = told if due[name] <= told else max(told, min(due[name], window - others))
            self._told[name] = now
            self._held[name] = max(self._held.get(name, 0), now)
            shares[name] = Share(due[name], now)
        return shares

    def reported(self, worker: str, slots: int, in_flight: int) -> None:
        """A worker says which share it goes by, and its calls in flight."""
        told = self._told.get(worker)
        if told is not None and slots == told:
            self._held[worker] = max(told, in_flight)

    def gone(self, worker: str) -> None:
        """A worker has ended: its calls are over, its share is free."""
        self._told.pop(worker, None)
        self._held.pop(worker, None)
