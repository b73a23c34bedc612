"""Simulated services with a limit that nobody is told."""

from __future__ import annotations

import asyncio
import random
from typing import NamedTuple, Protocol


class Answer(NamedTuple):
    """`ok` False is a 429."""

    ok: bool
    tokens: int = 0
    retry_after: float | None = None


class Limit(Protocol):
    """What a service takes. `scale` multiplies it."""

    scale: float

    def take(self, now: float, tokens: int, in_flight: int) -> float | None:
        """None: it is taken. Else the seconds until one would be."""


class Concurrency:
    """So many calls in flight."""

    def __init__(self, calls: int) -> None:
        self.calls, self.scale = calls, 1.0

    def take(self, now: float, tokens: int, in_flight: int) -> float | None:
        return None if in_flight < self.calls * self.scale else 1.0


class Bucket:
    """So much a minute, in a bucket that holds what comes in `burst_s`; calls, or their tokens."""

    def __init__(self, a_minute: float, burst_s: float = 1.0, *, of_tokens: bool = False) -> None:
        self.per_s, self.scale = a_minute / 60, 1.0
        self.burst_s = burst_s
        self.of_tokens = of_tokens
        self._level, self._at = self.per_s * burst_s, 0.0

    def take(self, now: float, tokens: int, in_flight: int) -> float | None:
        rate = self.per_s * self.scale
        self._level = min(rate * self.burst_s, self._level + (now - self._at) * rate)
        self._at = now
        cost = tokens if self.of_tokens else 1
        if self._level < cost:
            return (cost - self._level) / rate
        self._level -= cost
        return None


class Service:
    """Answers after 0.2 to 2 s, refuses after 20 to 100 ms, and counts both by the second."""

    def __init__(self, limit: Limit, seed: int, *, retry_after: bool = False) -> None:
        self.limit = limit
        self._random = random.Random(seed)
        self._retry_after = retry_after
        self._in_flight = 0
        self.ok: list[float] = []  # when each call was taken
        self.refused: list[float] = []
        self.tokens: list[int] = []  # of each call that was taken
        self.most_in_flight = 0

    async def call(self) -> Answer:
        now = asyncio.get_running_loop().time()
        tokens = self._random.randint(100, 900)
        wait = self.limit.take(now, tokens, self._in_flight)
        if wait is not None:
            self.refused.append(now)
            await asyncio.sleep(self._random.uniform(0.02, 0.1))
            return Answer(ok=False, retry_after=float(int(wait) + 1) if self._retry_after else None)
        self.ok.append(now)
        self.tokens.append(tokens)
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        await asyncio.sleep(self._random.uniform(0.2, 2.0))
        self._in_flight -= 1
        return Answer(ok=True, tokens=tokens)

    def rate(self, begin: float, end: float) -> float:
        """Calls a second that were taken."""
        return sum(begin <= at < end for at in self.ok) / (end - begin)

    def token_rate(self, begin: float, end: float) -> float:
        """Tokens a second that were taken."""
        taken = zip(self.ok, self.tokens, strict=True)
        return sum(tokens for at, tokens in taken if begin <= at < end) / (end - begin)

    @property
    def refused_share(self) -> float:
        """Of all calls."""
        return len(self.refused) / max(1, len(self.ok) + len(self.refused))
