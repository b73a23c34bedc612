"""Dividing an account's window among workers so that their sum never passes it.

Taking slots away is told at once, but counts as done only when the worker says that it has heard of it,
and how many calls it still has in flight; until then those slots are not given to another worker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.scheduling.shares import Shares

if TYPE_CHECKING:
    from collections.abc import Mapping


class Share(NamedTuple):
    """`due`: what a worker will have; `now`: what it may be told already."""

    due: int
    now: int


class Slots:
    """Who holds how much of one account's window. Workers are known by name."""

    def __init__(self) -> None:
        self._shares = Shares()

    def divide(
        self, window: int, workers: list[str], weights: Mapping[str, float], word: int
    ) -> dict[str, Share]:
        """Shares of `window` by weight, equal ones where nobody has any; each has one at least.

        With more workers than slots, the last ones get none. `word` numbers it, and grows with each call.
        """
        usable = workers[: max(1, min(window, len(workers)))]
        parts = _parts(window, [weights.get(name, 0.0) for name in usable])
        due = dict.fromkeys(workers, 0) | dict(zip(usable, parts, strict=True))
        told = self._shares.assign(window, due, word)
        return {name: Share(due[name], int(told[name])) for name in workers}

    def reported(self, worker: str, word: int, in_flight: int) -> None:
        """A worker says which word it heard last, and its calls in flight."""
        self._shares.reported(worker, word, in_flight)

    def leave(self, worker: str, word: int) -> bool:
        """A worker that ends has no share any more; whether that is news, and it must be told so.

        What it has in flight is held by it still, until it reports that it is over.
        """
        return self._shares.leave(worker, word)

    def gone(self, worker: str) -> None:
        """A worker has ended: its calls are over, its share is free."""
        self._shares.gone(worker)


def _parts(window: int, weights: list[float]) -> list[int]:
    """`window` in parts by weight, of one at least while there are enough; they add up to it."""
    if not weights or window < len(weights):
        return [window] * len(weights)
    if not any(weights):
        weights = [1.0] * len(weights)
    free = window - len(weights)
    exact = [free * weight / sum(weights) for weight in weights]
    parts = [int(part) for part in exact]
    left = free - sum(parts)
    for index in sorted(range(len(parts)), key=lambda at: parts[at] - exact[at])[:left]:
        parts[index] += 1
    return [part + 1 for part in parts]
