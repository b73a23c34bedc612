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
                    if self.down is not None:
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
            wait = min(_HOLD_S * 2 ** (self._throttles - 1), _HOLD_MAX_S) * random.uniform(0.75, 1.25)  # noqa: S311
            self._hold_until = self._clock.monotonic() + max(wait, error.retry_after or 0.0)
            raise _Again from error
        except Exception:
            self._back()
            raise
        self._back()
        self._throttles = 0
        return value

    def _lost(self, error: NotSent) -> None:
        if self.down is None:
            self.since = self._clock.now()
        self.down = network_text(error)
        self._failures += 1
        wait = min(_FIRST_S * 2 ** (self._failures - 1), _MAX_S) * random.uniform(0.5, 1.0)  # noqa: S311
        self._retry_at = self._clock.monotonic() + wait
        self.next_try = self._clock.now() + wait

    def _back(self) -> None:
        self.down = None
        self.next_try = None
        self._failures = 0

    async def _sleep_until(self, at: float) -> None:
        left = at - self._clock.monotonic()
        if left > 0:
            await self._clock.sleep(left)
