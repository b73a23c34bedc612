"""The service's own rate limiter: a token bucket a key, as providers have it."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from batch_inferd.testing.errors import rate_limited

if TYPE_CHECKING:
    from collections.abc import Callable

_ROUNDING = 1e-9  # who waits exactly as long as told gets in


class Limiter:
    """At most `rpm` requests at once, refilled evenly over a minute, for each key by itself."""

    def __init__(self, rpm: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._rpm = rpm
        self._per_s = rpm / 60
        self._monotonic = monotonic
        self._buckets: dict[str, tuple[float, float]] = {}  # key -> (tokens, when)

    def take(self, key: str) -> dict[str, str]:
        """Take one request's place; the x-ratelimit headers. Raises ApiError (429 with Retry-After)."""
        now = self._monotonic()
        tokens, then = self._buckets.get(key, (float(self._rpm), now))
        tokens = min(float(self._rpm), tokens + (now - then) * self._per_s)
        if tokens < 1 - _ROUNDING:
            self._buckets[key] = (tokens, now)
            wait = (1 - tokens) / self._per_s
            error = rate_limited(
                f"Rate limit reached on requests per min (RPM): Limit {self._rpm}, Used {self._rpm},"
                f" Requested 1. Please try again in {duration(wait)}.",
                str(math.ceil(wait)),
            )
            error.headers.update(self._headers(tokens))
            raise error
        self._buckets[key] = (tokens - 1, now)
        return self._headers(tokens - 1)

    def _headers(self, tokens: float) -> dict[str, str]:
        return {
            "x-ratelimit-limit-requests": str(self._rpm),
            "x-ratelimit-remaining-requests": str(int(tokens)),
            "x-ratelimit-reset-requests": duration((self._rpm - tokens) / self._per_s),
        }


def duration(seconds: float) -> str:
    """Seconds as OpenAI's headers write them: `20ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    if seconds < 60:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
    whole = math.ceil(seconds)
    return f"{whole // 60}m{whole % 60}s"
