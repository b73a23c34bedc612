"""Strikes: telling a record that its service will never take from a service that is busy.

A 429 is about the account, not about the record, and is free. But a record may be such that it always
meets one (it alone is over the limit of tokens a minute). It is one if others come through while it
does not: then the 429 is a strike, and after `MAX_STRIKES` of them the record ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from batch_inferd.worker.record import Record

MAX_STRIKES = 5


class Mark(NamedTuple):
    """The account's counters when the record was sent first, or met its last 429."""

    sends: int
    throttles: int
    sends_at_first: int | None  # at its first 429
    number: int  # of the record's last send


class Strikes:
    """The counters of one account."""

    def __init__(self) -> None:
        self._sends = 0
        self._newest_answered = 0  # the number of the latest send that was answered
        self._throttles = 0

    def sent(self, record: Record) -> None:
        """Call when a record is sent."""
        self._sends += 1
        if record.mark is None:
            record.mark = Mark(self._sends, self._throttles, None, self._sends)
        else:
            record.mark = record.mark._replace(number=self._sends)

    def answered(self, record: Record) -> None:
        """Call when any record of the account is answered."""
        if record.mark is not None:
            self._newest_answered = max(self._newest_answered, record.mark.number)

    def throttled(self, record: Record, *, alone: bool) -> bool:
        """Count a 429 for `record`; whether it ends the record.

        It is a strike if, since the record's last 429 (or its first send), others were answered and none
        met a 429; or if nothing else was in flight (`alone`), and others were answered since its first.
        Only calls that were sent since then count: late answers to older ones, which drain while the
        service is busy, say nothing about the record.
        """
        mark = record.mark or Mark(self._sends, self._throttles, None, 0)
        singled_out = self._newest_answered > mark.sends and self._throttles == mark.throttles
        first = mark.sends_at_first
        if singled_out or (alone and first is not None and self._newest_answered > first):
            record.strikes += 1
        self._throttles += 1
        record.mark = Mark(self._sends, self._throttles, self._sends if first is None else first, mark.number)
        return record.strikes >= MAX_STRIKES
