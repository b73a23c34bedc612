"""One account's gate: how many calls may be in flight, how fast, how many bytes, and what it waits for."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.text import Text
from batch_inferd.failures import HOLD_MAX_S
from batch_inferd.worker.answers import AnswerRoom
from batch_inferd.worker.buckets import TokenBucket, TokenDebt
from batch_inferd.worker.queues import Turns
from batch_inferd.worker.seen import Seen
from batch_inferd.worker.strikes import Strikes
from batch_inferd.worker.waits import half_jitter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_inferd.backends.online import Prepared
    from batch_inferd.backends.plan import Retry
    from batch_inferd.seams.clock import Clock
    from batch_inferd.worker.record import Record

BYTES_IN_FLIGHT = 64 * 1024 * 1024  # until the daemon says how many
_HOLD_JITTER = 0.1  # of the wait that the service asked for, added: not all workers come back at once
_HOLD_JITTER_MAX_S = 1.0
_SHORT_HOLD_S = (0.15, 0.25)  # a little longer than the daemon needs to answer a report
_ASKING_S = 0.5  # for the daemon to say what follows from a limit that the service tells of
_BYTES_A_TOKEN = 4
_INFINITY = float("inf")


def estimate(length: int, prepared: Prepared) -> int:
    """The tokens that a line of `length` bytes may use, the answer included: before anybody knows."""
    return length // _BYTES_A_TOKEN + prepared.most_tokens


class Gate:
    """The state of one account in this worker. Times are monotonic unless they say wall.

    Before a record is sent, `delay` must be 0.0 and `room` True for it; then `sent`, and once `returned`.
    """

    def __init__(self, fingerprint: str, clock: Clock) -> None:
        self.fingerprint = fingerprint
        self.turns = Turns()
        self.strikes = Strikes()
        self.in_flight = 0
        self.bytes_in_flight = 0  # of input lines, and of large answers
        self.answers = AnswerRoom(self)
        self.bytes = BYTES_IN_FLIGHT  # this worker's share of the account's
        self.blocked = False  # 401 or no credit: until the daemon speaks
        self.seen = Seen()
        self._clock = clock
        self._slots = 0  # until the daemon gives some
        self._bucket = TokenBucket()
        self._tokens = TokenDebt()
        self._charged = 0.0  # tokens of other workers that this one was charged with in all
        self._told_hold = 0.0  # the daemon's word, from all workers
        self._own_hold = 0.0  # from this worker's own 429s: only time ends it
        self._hold_until = 0.0  # the later of both
        self._hold_wall = 0.0  # the same, as people read it
        self._hold_since = 0.0  # wall
        self._word = 0  # the number of what the daemon said last
        self._cut = 0  # which of the daemon's cuts this worker goes by
        self._asked = False  # what follows from the service's limit
        self._asking_until = 0.0
        self._slower_since = 0.0  # a 429 to a call that was sent before is an echo
        self._throttles = 0  # in a row, without a Retry-After that tells how long
        self._reported: tuple[Any, ...] = ()

    def tell(
        self,
        slots: int,
        rate: float | None,
        hold_until: float | None,
        *,
        tokens: float | None = None,
        room: int | None = None,
        first_in: float = 0.0,
        charged: float = 0.0,
        cut: int = 0,
        word: int = 0,
    ) -> None:
        """The daemon's word on the account; it also ends a block.

        `rate` is in calls, `tokens` in tokens a second, `hold_until` is wall time; `room` is in bytes;
        `first_in` and `charged` are as in the daemon's `Word`. `cut` counts how often the daemon has slowed
        the account down, and `word` numbers what it says: both come back with the reports.
        """
        now = self._clock.monotonic()
        self._slots = max(0, slots)
        self._word = word
        self._bucket.set_rate(rate, now, first_in)
        if rate is not None:
            self._asking_until = 0.0
        self._tokens.set_rate(tokens, now)
        self._tokens.owe(max(0.0, charged - self._charged), now)
        self._charged = max(self._charged, charged)
        self.bytes = BYTES_IN_FLIGHT if room is None else room
        if cut != self._cut:
            self._cut = cut
            self._slower_since = now
            self.seen.fresh = 0
        left = 0.0 if hold_until is None else min(max(0.0, hold_until - self._clock.now()), HOLD_MAX_S)
        self._note_hold(now, left)
        self._told_hold = now + left
        self._hold_until = max(self._told_hold, self._own_hold)
        self.blocked = False

    def delay(self, now: float) -> float | None:
        """Seconds until a call may be sent; 0.0 now, None when only an event can change it."""
        if self.blocked:
            return None
        if self.in_flight >= self._slots:
            return None
        if self._hold_until > now:
            return self._hold_until - now
        if self._asking_until > now:
            return self._asking_until - now
        wait = self._bucket.delay(now)
        debt = self._tokens.delay(now)
        if wait or debt:
            wait = max(wait, debt)
            if wait == _INFINITY:
                return None
            self.seen.paced += 1
            return wait
        return 0.0

    def room(self, length: int) -> bool:
        """Whether a line of so many bytes, and its answer, fit; one over the share goes alone here."""
        return self.bytes_in_flight + length + self.answers.expected <= self.bytes or not self.bytes_in_flight

    @property
    def slots(self) -> int:
        """The share of the account's window that the daemon gave last."""
        return self._slots

    def sent(self, record: Record, tokens: int) -> None:
        """A call begins; `tokens` is its `estimate`."""
        now = self._clock.monotonic()
        self._bucket.take(now)
        self._tokens.take(tokens, now)
        record.room = record.length + self.answers.expected
        self.bytes_in_flight += record.room
        in_flight = self.in_flight = self.in_flight + 1
        seen = self.seen
        seen.sent += 1
        if in_flight > seen.peak_in_flight:  # noqa: PLR1730  cheaper than a call, in each call
            seen.peak_in_flight = in_flight
        if in_flight >= self._slots:
            seen.full += 1
        self.strikes.sent(record)

    def returned(self, record: Record, tokens: int, used: int | None) -> None:
        """A call ended, whatever came of it.

        `tokens` is as in `sent`; `used` as the service says, 0 when nothing was sent, None: unknown.
        """
        self.in_flight -= 1
        self.bytes_in_flight -= record.room
        self.answers.wake()
        self._tokens.settle(tokens, used)

    def take_quota(self, headers: Mapping[str, str]) -> None:
        """Keep what a reply says of the account's limits, of one reply a report.

        The first that names a limit of calls ends the sending for a moment: until the daemon has made a
        rate of it, as many more might be sent as fit into the window, and be refused.
        """
        self.seen.take_quota(headers)
        if not self._asked and self.seen.names_limit and self._bucket.rate is None:
            self._asked = True
            self._asking_until = self._clock.monotonic() + _ASKING_S

    def answered(self, record: Record) -> None:
        """A record was answered."""
        self.strikes.answered(record)
        self._throttles = 0
        self.seen.ok += 1

    def failed(self, *, retry: bool) -> None:
        """A call failed otherwise than by a 429; `retry`: by no fault of the record, as far as is known."""
        self.seen.failed += 1
        self.seen.broken += retry

    def throttled(self, retry: Retry, retry_after: float | None, sent_at: float) -> float:
        """Hold the account after a 429; returns the seconds. Without Retry-After it is a backoff.

        The first of these is short: the daemon slows the account down meanwhile. While nothing is answered
        they double. 429s to calls that were sent before the hold are echoes of the same overload: they do
        not raise the backoff.
        """
        now = self._clock.monotonic()
        fresh = sent_at >= self._slower_since or not self._throttles
        if retry_after:
            extra = min(_HOLD_JITTER * retry_after, _HOLD_JITTER_MAX_S)
            wait = retry_after + random.uniform(0.0, extra)  # noqa: S311
            self.seen.retry_after = max(self.seen.retry_after or 0.0, wait)
        elif fresh:
            self._throttles += 1
            if self._throttles == 1:
                wait = min(random.uniform(*_SHORT_HOLD_S), max(retry.base_s, 0.01))  # noqa: S311
            else:
                wait = half_jitter(retry, self._throttles - 1)
        else:
            wait = max(0.0, self._own_hold - now)
        if fresh:
            self._slower_since = now
            self.seen.fresh += 1
            self.seen.flying = self.in_flight
        self._note_hold(now, wait)
        self._own_hold = max(self._own_hold, now + wait)
        self._hold_until = max(self._told_hold, self._own_hold)
        self.seen.throttled += 1
        return wait

    def _note_hold(self, now: float, seconds: float) -> None:
        wall = self._clock.now()
        if self._hold_until <= now:
            self._hold_since = wall
            self._hold_wall = wall + seconds
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

    def report(self) -> dict[str, Any] | None:
        """What happened since the last report, with the state as it is now; None when that is no news."""
        waiting = self.waiting()
        backlog = self.turns.backlog
        self.seen.owed += self._tokens.hand_over()
        owing = self._tokens.owing(self._clock.monotonic())
        # The daemon gives slots and bytes on only when it knows that they are free here.
        state = (
            waiting,
            self._word,
            max(self.in_flight, self._slots),
            max(self.bytes_in_flight, self.bytes),
            backlog > 0,
        )
        if not self.seen.any and not (owing and self.seen.sent) and state == self._reported:
            return None
        self._reported = state
        seen, self.seen = self.seen, Seen(self.in_flight)
        return seen.to_json() | {
            "waiting": waiting,
            "slots": self._slots,
            "in_flight": self.in_flight,
            "bytes_in_flight": self.bytes_in_flight,
            "backlog": backlog,
            "owing": owing,
            "cut": self._cut,
            "word": self._word,
        }


def _waiting(code: str, text: Text, since: float | None, next_try: float | None) -> dict[str, Any]:
    return {"code": code, "text": text.to_wire(), "since": since, "next_try": next_try}
