"""One account's gate: how many calls may be in flight, how fast, and what it waits for."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.text import Text
from batch_inferd.failures import HOLD_MAX_S
from batch_inferd.worker.queues import Turns
from batch_inferd.worker.strikes import Strikes
from batch_inferd.worker.waits import TokenBucket, half_jitter

if TYPE_CHECKING:
    from batch_inferd.backends.plan import Retry
    from batch_inferd.seams.clock import Clock
    from batch_inferd.worker.record import Record

_HOLD_JITTER = 0.1  # of the wait that the service asked for, added: not all workers come back at once
_HOLD_JITTER_MAX_S = 1.0


class Gate:
    """The state of one account in this worker. Times are monotonic unless they say wall."""

    def __init__(self, fingerprint: str, clock: Clock) -> None:
        self.fingerprint = fingerprint
        self.turns = Turns()
        self.strikes = Strikes()
        self.in_flight = 0
        self.blocked = False  # 401 or no credit: until the daemon speaks
        self.seen = Seen()
        self._clock = clock
        self._slots = 0  # until the daemon gives some
        self._bucket = TokenBucket()
        self._told_hold = 0.0  # the daemon's word, from all workers
        self._own_hold = 0.0  # from this worker's own 429s: only time ends it
        self._hold_set_at = 0.0
        self._hold_wall = 0.0  # the later of both, as people read it
        self._hold_since = 0.0  # wall
        self._throttles = 0  # in a row, without a Retry-After that tells how long

    def tell(self, slots: int, rate: float | None, hold_until: float | None) -> None:
        """The daemon's word on the account; it also ends a block. `hold_until` is wall time."""
        now = self._clock.monotonic()
        self._slots = max(0, slots)
        self._bucket.set_rate(rate)
        left = 0.0 if hold_until is None else min(max(0.0, hold_until - self._clock.now()), HOLD_MAX_S)
        self._note_hold(now, left)
        self._told_hold = now + left
        self.blocked = False

    def delay(self, now: float) -> float | None:
        """Seconds until a call may be sent; 0.0 now, None when only an event can change it."""
        if self.blocked or self.in_flight >= self._slots:
            return None
        return max(self._hold_until - now, self._bucket.delay(now), 0.0)

    @property
    def slots(self) -> int:
        """The share of the account's window that the daemon gave last."""
        return self._slots

    @property
    def _hold_until(self) -> float:
        return max(self._told_hold, self._own_hold)

    def sent(self, record: Record) -> None:
        """A call begins."""
        self._bucket.take(self._clock.monotonic())
        self.in_flight += 1
        self.seen.peak_in_flight = max(self.seen.peak_in_flight, self.in_flight)
        self.strikes.sent(record)

    def returned(self) -> None:
        """A call ended, whatever came of it."""
        self.in_flight -= 1

    def answered(self, record: Record) -> None:
        """A record was answered."""
        self.strikes.answered(record)
        self._throttles = 0
        self.seen.ok += 1

    def throttled(self, retry: Retry, retry_after: float | None, sent_at: float) -> float:
        """Hold the account after a 429; returns the seconds. Without Retry-After it is a backoff.

        429s to calls that were sent before the hold are echoes of the same overload: they do not raise
        the backoff.
        """
        now = self._clock.monotonic()
        if retry_after:
            extra = min(_HOLD_JITTER * retry_after, _HOLD_JITTER_MAX_S)
            wait = retry_after + random.uniform(0.0, extra)  # noqa: S311
        elif sent_at >= self._hold_set_at or not self._throttles:
            self._throttles += 1
            self._hold_set_at = now
            wait = half_jitter(retry, self._throttles)
        else:
            wait = max(0.0, self._own_hold - now)
        self._note_hold(now, wait)
        self._own_hold = max(self._own_hold, now + wait)
        self.seen.throttled += 1
        self.seen.retry_after = max(self.seen.retry_after or 0.0, wait)
        return wait

    def _note_hold(self, now: float, seconds: float) -> None:
        wall = self._clock.now()
        if self._hold_until <= now:
            self._hold_since = wall
        self._hold_wall = max(self._hold_wall, wall + seconds)

    def waiting(self) -> dict[str, Any] | None:
        """What it waits for, in the shape of a report: code, text, since, next_try (wall times)."""
        down = self.turns.down
        if down is not None:
            return _waiting("network", down.text, down.since, down.next_try)
        if self._hold_until > self._clock.monotonic():
            text = Text("the service asked to wait (rate limit)")
            return _waiting("rate_limit", text, self._hold_since, self._hold_wall)
        return None


class Seen:
    """What happened on an account since the last report."""

    def __init__(self, in_flight: int = 0) -> None:
        self.ok = 0
        self.throttled = 0
        self.failed = 0
        self.retry_after: float | None = None
        self.peak_in_flight = in_flight
        self.quota: dict[str, str] = {}

    @property
    def any(self) -> bool:
        """Whether a call ended."""
        return bool(self.ok or self.throttled or self.failed)

    def to_json(self, waiting: dict[str, Any] | None, slots: int, in_flight: int) -> dict[str, Any]:
        """The ACCOUNT message; `slots` and `in_flight` are as they are now."""
        return {
            "slots": slots,
            "in_flight": in_flight,
            "ok": self.ok,
            "throttled": self.throttled,
            "failed": self.failed,
            "retry_after": self.retry_after,
            "peak_in_flight": self.peak_in_flight,
            "waiting": waiting,
            "quota": self.quota,
        }


def _waiting(code: str, text: Text, since: float | None, next_try: float | None) -> dict[str, Any]:
    return {"code": code, "text": text.to_wire(), "since": since, "next_try": next_try}
