"""What a gate lets through a second: calls (RPM) and tokens (TPM). Times are the clock's monotonic ones."""

from __future__ import annotations

import math

_CATCH_UP_S = 0.05  # several times what timers run late
_TOKENS_CATCH_UP_S = 0.5
_ROUNDING_S = 1e-6  # a wait of less would never be over by the clock
_SLOW_LEARNING = 0.05  # the weight of one answer in what is known of the estimates


class TokenBucket:
    """Calls a second: each is due an interval after the one before (GCRA).

    A rate of None is no limit, of 0 nothing at all. What timers run late is caught up with, at most
    `_CATCH_UP_S` of it: so the rate is met, and an idle account never bursts.
    """

    def __init__(self) -> None:
        self._rate: float | None = None
        self._last = 0.0  # when the call before was due, or when the rate began
        self._first = math.inf  # when the first call under a rate is due, if that is sooner

    @property
    def rate(self) -> float | None:
        """Calls a second."""
        return self._rate

    def set_rate(self, rate: float | None, now: float, first_in: float = 0.0) -> None:
        """Change the rate, and with it the time of the next call.

        Where there was none before, the first call is due in `first_in` seconds, or after an interval.
        """
        if rate and not self._rate:
            self._last = now
            self._first = now + first_in
        self._rate = None if rate is None else max(0.0, rate)

    def delay(self, now: float) -> float:
        """Seconds until a call may be taken: 0.0 now, infinite while the rate is 0."""
        if self._rate is None:
            return 0.0
        if not self._rate:
            return math.inf
        due = self._due(self._rate)
        return due - now if due > now else 0.0

    def take(self, now: float) -> None:
        """Take one; call only when `delay` is 0.0."""
        if self._rate:
            self._last = max(self._due(self._rate), now - _CATCH_UP_S)
            self._first = math.inf

    def _due(self, rate: float) -> float:
        return min(self._first, self._last + 1 / rate)


class TokenDebt:
    """Tokens a second, of which a call's number is only known when it has ended.

    A call may begin while the bucket is not in debt. Its estimate is taken then, and replaced by what it
    used when it ends. Estimates that turn out too high again and again (`max_tokens` is a bound, and seldom
    reached) would keep the account far under its limit: what calls under way are believed to use is their
    estimate times the share of it that earlier calls have used.
    """

    def __init__(self) -> None:
        self._rate: float | None = None
        self._debt = 0.0  # tokens of settled calls that were not paid for at `_at`; below 0: saved
        self._at = 0.0
        self._under_way = 0  # estimated tokens
        self._share = 1.0  # used of the estimates, at most 1: learnt

    @property
    def rate(self) -> float | None:
        """Tokens a second."""
        return self._rate

    def set_rate(self, rate: float | None, now: float) -> None:
        """Change the rate; a debt stays as many tokens as it was. None is no limit, 0 nothing at all."""
        self._pay(now)
        if rate is None:
            self._debt = 0.0
        elif self._rate is None:
            self._debt = -rate * _TOKENS_CATCH_UP_S
        self._rate = None if rate is None else max(0.0, rate)

    def _pay(self, now: float) -> None:
        if self._rate:
            saved = self._rate * _TOKENS_CATCH_UP_S + self._under_way * self._share
            self._debt = max(self._debt - self._rate * (now - self._at), -saved)
        self._at = now

    def delay(self, now: float) -> float:
        """Seconds until a call may begin, if none ends before: 0.0 now, infinite while the rate is 0."""
        if self._rate is None:
            return 0.0
        if not self._rate:
            return math.inf
        owed = self._debt + self._under_way * self._share
        wait = owed / self._rate - (now - self._at)
        return wait if wait > _ROUNDING_S else 0.0

    def take(self, tokens: int, now: float) -> None:
        """A call begins that is estimated to use `tokens`; call only when `delay` is 0.0."""
        self._pay(now)
        self._under_way += tokens

    def settle(self, tokens: int, used: int | None) -> None:
        """A call with this estimate ended, and used so many; None: unknown, the estimate stands."""
        self._under_way -= tokens
        if self._rate is not None:
            self._debt += tokens if used is None else used
        if used and tokens:
            self._share += _SLOW_LEARNING * (min(1.0, used / tokens) - self._share)

    def owing(self, now: float) -> float:
        """What is not paid for yet, with what calls under way are believed to use; 0.0 without a limit."""
        if self._rate is None:
            return 0.0
        return max(0.0, self._debt + self._under_way * self._share - self._rate * (now - self._at))

    def owe(self, tokens: float, now: float) -> None:
        """Pay for what another worker's calls have used."""
        self._pay(now)
        self._debt += tokens

    def hand_over(self) -> float:
        """The debt that nothing is paid of here, as the rate is 0: the account is to be charged with it."""
        if self._rate != 0.0 or self._debt <= 0.0:
            return 0.0
        owed, self._debt = self._debt, 0.0
        return owed
