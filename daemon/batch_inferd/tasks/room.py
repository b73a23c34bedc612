"""A full disk: when a task that waits for room may try again, and how much must fit by then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_inferd.tasks.folder import room_errno

if TYPE_CHECKING:
    from batch_inferd.seams.files import Directory

FIRST_S, MAX_S = 5.0, 60.0
FIRST_BYTES, MAX_BYTES = 64 * 1024, 16 * 1024 * 1024


class Room:
    """Waits longer, and asks for more, with every time that the disk was full again. Times are monotonic."""

    def __init__(self) -> None:
        self._failures = 0
        self._at = 0.0

    def full(self, now: float) -> None:
        """The disk is full."""
        self._failures += 1
        self._at = now + self._wait()

    def progressed(self) -> None:
        """A chunk was finished since: the next full disk begins with a short wait."""
        self._failures = 0

    def is_due(self, now: float) -> bool:
        """Whether it is time to look; the next look is later."""
        if now < self._at:
            return False
        self._at = now + self._wait()
        return True

    def is_there(self, directory: Directory) -> bool:
        """Whether the disk takes as much as should fit by now. Blocks."""
        size = min(FIRST_BYTES * 4 ** max(0, self._failures - 1), MAX_BYTES)
        return room_errno(directory, size) is None

    def _wait(self) -> float:
        return float(min(FIRST_S * 2 ** min(max(0, self._failures - 1), 32), MAX_S))
