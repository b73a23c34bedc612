"""What a service's headers tell of the account's limits.

OpenAI's names, which Azure, Groq, DashScope, Together and most others have too
(`x-ratelimit-limit-requests: 600`, `-remaining-requests`, `-reset-requests: 6m0s`, the same with `-tokens`),
and Anthropic's (`anthropic-ratelimit-requests-limit`, with a time of day as reset). Whatever cannot be
read is left out: a header never fails a call.

A told limit is taken as one a minute, which is what nearly all of them are. Where it is one a day, it
is a ceiling too high to matter.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

MINUTE_S = 60.0
HOLD_MAX_S = 60.0  # a longer wait has to be asked for by a 429 with Retry-After
_HOLD_MIN_S = 0.5
_HOLD_UNSURE_S = 1.0  # while it may be a window or a bucket
_FORGOTTEN_S = 60.0
_LIMIT_MAX = 10**12
_CHARS_MAX = 40
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_NUMBER = re.compile(r"\d+(\.\d+)?", re.ASCII)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SURE = 3  # replies in a row that look like a bucket


class Told(NamedTuple):
    """One limit as a reply tells it; None for what it does not tell. `reset` is in seconds from now."""

    limit: float | None
    remaining: float | None
    reset: float | None


def read(headers: Mapping[str, str], kind: str, wall: float) -> Told:
    """What `headers` (lower-case names) say about `kind`, "requests" or "tokens"; `wall` is the time now."""

    def find(what: str) -> str:
        value = headers.get(f"x-ratelimit-{what}-{kind}") or headers.get(f"anthropic-ratelimit-{kind}-{what}")
        return (value or "").strip()[:_CHARS_MAX]

    limit = _number(find("limit"))
    return Told(limit or None, _number(find("remaining")), duration(find("reset"), wall))


def duration(text: str, wall: float) -> float | None:
    """Seconds of `20ms`, `1.5s`, `6m0s`, `59`, an RFC 3339 time or a Unix time; None for anything else."""
    number = _number(text)
    if number is not None:
        if number > 1e11:
            number /= 1000
        return max(0.0, number - wall) if number > 1e9 else number
    parts = _PART.findall(text)
    if parts and "".join(value + unit for value, unit in parts) == text:
        return sum(float(value) * _UNITS[unit] for value, unit in parts)
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if moment.tzinfo is None else max(0.0, moment.timestamp() - wall)


def _number(text: str) -> float | None:
    if not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    return number if number <= max(_LIMIT_MAX, 1e13) else None


class Quota:
    """One told limit of an account, of requests or of tokens. Times are monotonic."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._limits: dict[float, float] = {}  # limit -> when it was told last: models differ in theirs
        self._like_a_bucket = 0  # replies in a row
        self._spent: tuple[float, float] | None = None  # when nothing remained last, and its reset then
        self._counts_down = False

    def limit(self, now: float) -> float | None:
        """So many a minute: the highest that was told within the last minute, of several models'."""
        known = [limit for limit, at in self._limits.items() if now - at <= _FORGOTTEN_S]
        if not known and self._limits:
            known = [max(self._limits, key=lambda limit: self._limits[limit])]
        return max(known, default=None)

    def update(self, headers: Mapping[str, str], wall: float, now: float) -> float:
        """Take a reply's headers; returns the seconds in which nothing more will pass."""
        told = read(headers, self._kind, wall)
        if told.limit is None or told.limit > _LIMIT_MAX:
            return 0.0
        self._limits = {limit: at for limit, at in self._limits.items() if now - at <= _FORGOTTEN_S}
        self._limits[told.limit] = now
        if told.remaining is None or told.reset is None:
            return 0.0
        used = told.limit - told.remaining
        # A bucket that refills says how long until it is full; a window, when it begins again.
        fills_s = told.reset * told.limit / used if used > 0 else math.nan
        if told.remaining:
            bucket = 0.8 * MINUTE_S < fills_s < 1.25 * MINUTE_S
            self._like_a_bucket = self._like_a_bucket + 1 if bucket else 0
            return 0.0
        if self._like_a_bucket >= _SURE:
            return min(HOLD_MAX_S, max(_HOLD_MIN_S, 2 * MINUTE_S / told.limit))
        before, self._spent = self._spent, (now, now + told.reset)
        if before is not None and now - before[0] >= _HOLD_MIN_S:
            # The same moment again: a window that ends then. A bucket is always as far from full.
            self._counts_down = abs(before[1] - self._spent[1]) < (now - before[0]) / 2
        return min(HOLD_MAX_S if self._counts_down else _HOLD_UNSURE_S, told.reset)
