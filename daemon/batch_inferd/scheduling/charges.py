"""Tokens that a worker without a share of the rate owes: those who have one pay for it.

A call may end after its worker's share was given on. What it used counts for the account all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Charges:
    """What is owed, and what each worker was charged in all. Workers are known by name."""

    def __init__(self) -> None:
        self._owed = 0.0  # tokens
        self._at = 0.0  # monotonic
        self._charged: dict[str, float] = {}

    def owe(self, tokens: float) -> None:
        """A worker without a share handed over so many."""
        self._owed += tokens

    def divide(self, shares: Mapping[str, float], whole: float | None, now: float) -> dict[str, float]:
        """What each worker was charged since it began, in tokens: it pays for what is new to it.

        `shares` of `whole` are in tokens a second. While nobody has one, time pays.
        """
        total = sum(shares.values())
        if whole is None:
            self._owed = 0.0
        elif not total:
            self._owed = max(0.0, self._owed - whole * max(0.0, now - self._at))
        elif self._owed:
            for name, share in shares.items():
                self._charged[name] = self._charged.get(name, 0.0) + self._owed * share / total
            self._owed = 0.0
        self._at = now
        return {name: self._charged.get(name, 0.0) for name in shares}

    def gone(self, worker: str) -> None:
        """A worker has ended."""
        self._charged.pop(worker, None)
