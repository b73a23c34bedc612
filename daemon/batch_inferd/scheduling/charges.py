"""Tokens that a worker owes and does not pay for: those who have a share of the rate do.

A call may end after its worker's share was given on, and a worker may die with a debt. What was used counts
for the account all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Charges:
    """What is owed, and what each worker was charged in all. Workers are known by name."""

    def __init__(self) -> None:
        self._owed = 0.0  # tokens
        self._at: float | None = None  # monotonic: since when nobody has a share, if so
        self._charged: dict[str, float] = {}
        self._shares: dict[str, float] = {}  # tokens a second
        self._unpaid: dict[str, tuple[float, float]] = {}  # a worker's own debt, and when it told (monotonic)

    def owe(self, tokens: float) -> None:
        """A worker without a share handed over so many."""
        self._owed += tokens

    def reported(self, worker: str, tokens: float, now: float) -> None:
        """A worker still has to pay for so many, its calls under way included."""
        self._unpaid[worker] = (tokens, now)

    def divide(self, shares: Mapping[str, float], whole: float | None, now: float) -> dict[str, float]:
        """What each worker was charged since it began, in tokens: it pays for what is new to it.

        `shares` of `whole` are in tokens a second. While nobody had one, time has paid.
        """
        total = sum(shares.values())
        if whole is None:
            self._owed = 0.0
        elif self._at is not None:
            self._owed = max(0.0, self._owed - whole * max(0.0, now - self._at))
        if self._owed and total:
            for name, share in shares.items():
                self._charged[name] = self._charged.get(name, 0.0) + self._owed * share / total
            self._owed = 0.0
        self._at = None if total else now
        self._shares = dict(shares)
        return {name: self._charged.get(name, 0.0) for name in shares}

    def gone(self, worker: str, now: float) -> None:
        """A worker has ended: what it has not paid for since its last word is owed by the others."""
        self._charged.pop(worker, None)
        tokens, at = self._unpaid.pop(worker, (0.0, now))
        share = self._shares.pop(worker, 0.0)
        if share and not any(self._shares.values()):
            self._at = now  # from now on time pays
        self._owed += max(0.0, tokens - share * max(0.0, now - at))
