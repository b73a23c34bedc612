"""What counts against a task's budget: what was spent, and what may be spent without asking again.

Pure bookkeeping; `tasks.budget` writes it down. Amounts are in nano units, see `money.budget`. What stands
on the disk is never less than what workers were told: an amount is *pending* until it was written down.
"""

from __future__ import annotations

from typing import Any

_SLICES = 64  # a grant is at least this part of the budget, so that large ones need few


class Held:
    """A worker's purse, as the daemon knows it. `need` is what its next call lacks; 0: nothing."""

    def __init__(self, seat: str) -> None:
        self.seat = seat
        self.granted = 0  # as the worker was told
        self.pending = 0  # decided, and not told yet
        self.returned = 0
        self.spent = 0
        self.need = 0
        self.want = 0
        self.idle = False  # it needs more, and nothing of it is in flight

    @property
    def outstanding(self) -> int:
        """What it may have spent by now: all of it is lost if its worker dies."""
        return max(self.granted - self.returned, self.spent)

    def hear(self, said: dict[str, Any]) -> None:
        """Take over a worker's words."""
        self.spent, self.returned = int(said["spent"]), int(said["returned"])
        self.need, self.want = int(said["need"]), int(said["want"])
        # It may not have heard of the newest grant yet: then it speaks again.
        self.idle = bool(said["idle"]) and int(said["granted"]) == self.granted


class Ledger:
    """One task's. `spent` may be an offset below zero, see `begin`."""

    def __init__(self) -> None:
        self.spent = 0  # by purses that are closed, and lost with workers that died
        self.charged = 0  # what batches that are closed have cost: it stands with them in task.db
        self.held: dict[str, Held] = {}
        self.batches: dict[int, int] = {}  # submission -> what it may cost, from its intent to its end

    @property
    def total(self) -> int:
        """All that counts against the budget."""
        held = sum(one.outstanding + one.pending for one in self.held.values())
        return self.spent + self.charged + held + sum(self.batches.values())

    def begin(self, spent: int) -> None:
        """Count from `spent` on, of which `charged` is a part."""
        self.spent = spent - self.charged

    def is_stale(self, key: str, said: dict[str, Any]) -> bool:
        """Whether a purse that goes on is of an earlier budget, and is not counted any more."""
        return key not in self.held and not said["closed"] and bool(said["granted"])

    def hear(self, key: str, seat: str, said: dict[str, Any]) -> bool:
        """What a purse says; whether what stands on the disk is out of date."""
        one = self.held.get(key)
        if one is None:
            if said["closed"] or said["granted"]:
                return False  # of a purse that was counted as lost, or never spent anything
            one = self.held[key] = Held(seat)
        before = one.outstanding
        one.hear(said)
        if said["closed"]:
            self.spent += one.spent
            del self.held[key]
            return True
        return one.outstanding != before

    def lose(self, seat: str) -> int:
        """A seat is gone: what its purses held counts as spent. Returns how much of it is lost."""
        lost = 0
        for key in [key for key, one in self.held.items() if one.seat == seat]:
            one = self.held.pop(key)
            self.spent += one.outstanding
            lost += one.outstanding - one.spent
        return lost

    def decide(self, limit: int, seats: int) -> bool:
        """Promise what purses want, as far as it goes: the starved ones first. Whether any was promised.

        `seats`: how many share it. No purse takes more than its part, unless its next call needs it.
        """
        left = limit - self.total
        least, promised = limit // _SLICES, False
        for one in sorted(self.held.values(), key=lambda one: not one.need):
            if one.pending or not one.want or left <= 0:
                continue
            part = min(max(one.want, least), left // max(1, seats))
            if one.need:
                part = max(one.need, part)
            if part > left or (not one.need and 2 * part < one.want):
                continue
            one.pending = part
            left -= part
            promised = True
        return promised

    def told(self) -> list[tuple[str, int]]:
        """What was promised stands on the disk: each purse with all that it was granted."""
        found = []
        for key, one in self.held.items():
            if one.pending:
                one.granted += one.pending
                one.pending = one.need = one.want = 0
                one.idle = False
                found.append((key, one.granted))
        return found

    def break_promises(self) -> None:
        """It could not be written down."""
        for one in self.held.values():
            one.pending = 0

    def next_call(self) -> int | None:
        """What the cheapest call that waits needs; None where a purse still has calls, or none waits."""
        if any(not one.idle for one in self.held.values()):
            return None
        return min((one.need for one in self.held.values()), default=None)

    def to_json(self) -> dict[str, Any]:
        """What is written down: a daemon that finds `grants` takes them for spent."""
        grants = {key: one.outstanding + one.pending for key, one in self.held.items()}
        return {"spent": self.spent, "grants": grants}

    def load(self, stored: dict[str, Any]) -> None:
        """Go on where an earlier daemon was: no worker of it lives."""
        self.spent = int(stored["spent"]) + sum(map(int, stored["grants"].values()))
