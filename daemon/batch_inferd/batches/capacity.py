"""What an account's queue takes: batches in flight, enqueued tokens, creations an hour, and a full queue.

Reservations are made before a batch is created and given back when it has ended, for all tasks of the
workspace. A queue that says that it is full is left alone for minutes, longer each time.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import TYPE_CHECKING

from batch_infer.protocol.text import Text
from batch_inferd.seams.clock import within

if TYPE_CHECKING:
    from batch_inferd.backends.batch.api import BatchApi
    from batch_inferd.seams.clock import Clock

FULL_FIRST_S, FULL_MAX_S = 60.0, 1800.0
_HOUR_S = 3600.0
_REST_S = 600.0


class Full:
    """Why a batch has to wait; `until` is monotonic, None where only the end of another batch helps."""

    def __init__(self, text: Text, until: float | None) -> None:
        self.text = text
        self.until = until


class Capacity:
    """One account's. Keys are submissions, unique in the daemon."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: dict[str, int] = {}  # submission -> tokens
        self._lapse: dict[str, float] = {}  # monotonic: places of batches that nobody looks at
        self._creates: deque[float] = deque()
        self._refusals = 0
        self._full_until = 0.0
        self._said = ""
        self._changed = asyncio.Event()

    @property
    def tokens(self) -> int:
        """Tokens reserved."""
        return sum(self._held.values())

    @property
    def batches(self) -> int:
        """Batches in flight, or about to be."""
        return len(self._held)

    def adopt(self, key: str, tokens: int) -> None:
        """A batch that was found live takes its place, whatever the limits."""
        self._held[key] = tokens
        self._lapse.pop(key, None)

    def rest(self, key: str, seconds: float) -> None:
        """Nobody looks at this batch for now: its place is its own until its window of `seconds` is over."""
        if key in self._held:
            self._lapse[key] = self._clock.monotonic() + max(seconds, _REST_S)

    def reserve(self, key: str, tokens: int, api: BatchApi) -> Full | None:
        """Take a place, or say why there is none now."""
        now = self._clock.monotonic()
        for other in [other for other, at in self._lapse.items() if at <= now]:
            self.release(other)
        if key in self._held:
            return None
        if now < self._full_until:
            return Full(
                Text("the account's queue is full: {detail}", {"detail": self._said}), self._full_until
            )
        if api.max_in_flight is not None and len(self._held) >= api.max_in_flight:
            values = {"n": len(self._held)}
            return Full(Text("{n} batches are in flight, as many as may be at a time", values), None)
        limit = api.enqueued_tokens
        if limit is not None and self._held and self.tokens + tokens > limit:
            values = {"held": self.tokens, "limit": limit}
            return Full(Text("{held} of {limit} tokens are enqueued", values), None)
        while self._creates and self._creates[0] <= now - _HOUR_S:
            self._creates.popleft()
        if api.creates_per_hour is not None and len(self._creates) >= api.creates_per_hour:
            values = {"n": api.creates_per_hour}
            until = self._creates[0] + _HOUR_S
            return Full(Text("{n} batches were created within the hour, as many as may be", values), until)
        self._held[key] = tokens
        return None

    def created(self) -> None:
        """A create was sent."""
        self._creates.append(self._clock.monotonic())

    def release(self, key: str) -> None:
        """A batch has ended, or was not created: others may find room, also in a queue that was full."""
        self._lapse.pop(key, None)
        if self._held.pop(key, None) is not None:
            self._full_until = 0.0
            self._tell()

    def accepted(self) -> None:
        """A batch came through its validation: the next full queue begins with a short wait."""
        self._refusals = 0

    def refused(self, key: str, detail: str, retry_after: float | None = None) -> float:
        """The queue is full: `key` gives its place back. Returns the seconds that all wait."""
        self._held.pop(key, None)
        self._refusals += 1
        longest = min(FULL_FIRST_S * 2.0 ** min(self._refusals - 1, 32), FULL_MAX_S)
        wait = max(longest * random.uniform(0.8, 1.2), retry_after or 0.0)  # noqa: S311
        self._full_until = self._clock.monotonic() + wait
        self._said = detail
        return wait

    async def changed(self, until: float | None) -> None:
        """Return when a place may be free: something was given back, or the monotonic time has come."""
        self._changed.clear()
        seconds = 60.0 if until is None else max(0.05, until - self._clock.monotonic())
        await within(self._clock, self._changed.wait(), seconds)

    def _tell(self) -> None:
        self._changed.set()
