"""How long to wait: backoff with jitter, and a timer on the clock seam."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_inferd.backends.plan import Retry
    from batch_inferd.seams.clock import Clock


def full_jitter(retry: Retry, failures: int) -> float:
    """Seconds before the next try after `failures` ≥ 1: anything up to the doubled base, capped."""
    return random.uniform(0.0, _ceiling(retry, failures))  # noqa: S311  spreads load, hides nothing


def half_jitter(retry: Retry, failures: int) -> float:
    """As `full_jitter`, but at least half of it: for an account, whose next call must not follow at once."""
    ceiling = _ceiling(retry, failures)
    return random.uniform(ceiling / 2, ceiling)  # noqa: S311


def _ceiling(retry: Retry, failures: int) -> float:
    return float(min(retry.cap_s, retry.base_s * 2 ** min(failures - 1, 32)))


class Alarm:
    """Calls `callback` once at the earliest time that was asked for. Times are the clock's monotonic ones."""

    def __init__(self, clock: Clock, callback: Callable[[], None]) -> None:
        self._clock = clock
        self._callback = callback
        self._at: float | None = None
        self._task: asyncio.Task[None] | None = None

    def set(self, at: float) -> None:
        """Call back at `at`, or earlier if that was asked for before."""
        if self._at is not None and self._at <= at:
            return
        self.cancel()
        self._at = at
        self._task = asyncio.create_task(self._wait(at), name="alarm")

    def cancel(self) -> None:
        """Do not call back."""
        if self._task is not None:
            self._task.cancel()
        self._at = self._task = None

    async def _wait(self, at: float) -> None:
        await self._clock.sleep(max(0.0, at - self._clock.monotonic()))
        self._at = self._task = None
        self._callback()
