"""Whether an account's control plane can be reached, for all submissions that call it.

While it cannot, one caller at a time tries, with growing waits; the others stand behind. A call that was
throttled holds all of them. Nothing here ever gives up: a lost network is waited out.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, TypeVar

from batch_inferd.backends.batch.provider import Capacity, NotSent, Throttled
from batch_inferd.failures import network_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from batch_infer.protocol.text import Text
    from batch_inferd.seams.clock import Clock

T = TypeVar("T")
_FIRST_S, _MAX_S = 0.5, 30.0
_HOLD_S, _HOLD_MAX_S = 2.0, 120.0


def _grown(first: float, failures: int, most: float) -> float:
    # Bounded: after a day without a network there are thousands of failures.
    return min(first * 2.0 ** min(failures - 1, 32), most)


class _Again(Exception):  # noqa: N818
    """Nothing came of it: try again after the wait."""


class Reach:
    """One way to one account."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._one = asyncio.Lock()
        self.down: Text | None = None
        self.since = 0.0  # wall time
        self.next_try: float | None = None  # wall time
        self._failures = 0
        self._retry_at = 0.0  # monotonic
        self._hold_until = 0.0  # monotonic
        self._throttles = 0
        self.listeners: set[Callable[[Text | None], None]] = set()  # told why it is down; None: it is back

    async def call(self, make: Callable[[], Awaitable[T]]) -> T:
        """The result of `make()`, called again for as long as nothing can be sent or it is throttled.

        Raises what else it raises: the other ProviderErrors, OSError.
        """
        while True:
            await self._sleep_until(self._hold_until)
            try:
                if self.down is None:
                    return await self._try(make)
                async with self._one:
                    if self.down is not None:  # else it is back: all go at once
                        await self._sleep_until(self._retry_at)
                        return await self._try(make)
            except _Again:
                continue

    async def _try(self, make: Callable[[], Awaitable[T]]) -> T:
        try:
            value = await make()
        except NotSent as error:
            self._lost(error)
            raise _Again from error
        except Capacity:
            self._back()
            raise
        except Throttled as error:
            self._back()
            self._throttles += 1
            wait = _grown(_HOLD_S, self._throttles, _HOLD_MAX_S) * random.uniform(0.75, 1.25)  # noqa: S311
            self._hold_until = self._clock.monotonic() + max(wait, error.retry_after or 0.0)
            raise _Again from error
        except Exception:
            self._back()
            raise
        self._back()
        self._throttles = 0
        return value

    def _lost(self, error: NotSent) -> None:
        news = self.down is None
        self.down = network_text(error)
        if news:
            self.since = self._clock.now()
            self._tell()
        self._failures += 1
        wait = _grown(_FIRST_S, self._failures, _MAX_S) * random.uniform(0.5, 1.0)  # noqa: S311
        self._retry_at = self._clock.monotonic() + wait
        self.next_try = self._clock.now() + wait

    def _back(self) -> None:
        if self.down is not None:
            self.down = None
            self._tell()
        self.next_try = None
        self._failures = 0

    def _tell(self) -> None:
        for listener in tuple(self.listeners):
            listener(self.down)

    async def _sleep_until(self, at: float) -> None:
        left = at - self._clock.monotonic()
        if left > 0:
            await self._clock.sleep(left)
