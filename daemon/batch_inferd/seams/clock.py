"""The clock: wall time, monotonic time and sleeping, replaceable by a test across processes.

With `BATCH_INFER_CLOCK_FILE=F`, both times run ahead of the real ones by the seconds that stand as a
decimal number in F; a test moves time by rewriting F. Sleepers look at it every few milliseconds.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")
_POLL_S = 0.005


class Clock(Protocol):
    """What the daemon and its workers ask for the time."""

    def now(self) -> float:
        """Wall time: seconds since 1970. It may jump: only for people and for what outlives a process."""

    def monotonic(self) -> float:
        """Seconds that never run back. For deadlines and intervals."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of this clock's time."""


class SystemClock:
    """The real time. A worker asks for it several times a call: nothing stands between."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        """Sleep for real."""
        await asyncio.sleep(seconds)


class FileClock:
    """Real time plus the offset that stands in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _offset(self) -> float:
        try:
            return float(self._path.read_text(encoding="ascii") or 0)
        except (FileNotFoundError, ValueError):
            return 0.0  # not there yet, or in the middle of being rewritten

    def now(self) -> float:
        """Seconds since 1970, moved."""
        return time.time() + self._offset()

    def monotonic(self) -> float:
        """Seconds since an arbitrary point, moved."""
        return time.monotonic() + self._offset()

    async def sleep(self, seconds: float) -> None:
        """Return once the file (or real time) has moved far enough."""
        end = self.monotonic() + seconds
        while (left := end - self.monotonic()) > 0:  # noqa: ASYNC110  another process moves the file
            await asyncio.sleep(min(left, _POLL_S))


async def within(clock: Clock, work: Awaitable[T], seconds: float | None) -> T | None:
    """The result of `work`; None when `seconds` of the clock were over before, and it is cancelled."""
    job = asyncio.ensure_future(work)
    waits: set[asyncio.Future[Any]] = {job}
    if seconds is not None:
        waits.add(asyncio.ensure_future(clock.sleep(seconds)))
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return job.result() if job.done() else None
    finally:
        for one in waits:
            one.cancel()


def make_clock() -> Clock:
    """The clock that the environment asks for."""
    path = os.environ.get("BATCH_INFER_CLOCK_FILE")
    return FileClock(Path(path)) if path else SystemClock()
