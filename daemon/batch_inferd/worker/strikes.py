"""Strikes: telling a record that its service will never take from a service that is busy.

A 429 is about the account, not about the record, and is free. But a record may be such that it always
meets one (it alone is over the limit of tokens a minute). It is one if others come through while it
does not: then the 429 is a strike, and after `MAX_STRIKES` of them the record ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batch_inferd.worker.record import Record

MAX_STRIKES = 5


# The account's counters when the record was sent first, or met its last 429: its sends, its 429s, its
# sends at the record's first 429, and the number of the record's last send. A plain tuple: one is made
# for each call.
Mark = tuple[int, int, int | None, int]


class Strikes:
    """The counters of one account."""

    def __init__(self) -> None:
        self._sends = 0
        self._newest_answered = 0  # the number of the latest send that was answered
        self._throttles = 0

    def sent(self, record: Record) -> None:
        """Call when a record is sent."""
        self._sends += 1
        mark = record.mark
        if mark is None:
            record.mark = (self._sends, self._throttles, None, self._sends)
        else:
            record.mark = (mark[0], mark[1], mark[2], self._sends)

    def answered(self, record: Record) -> None:
        """Call when any record of the account is answered."""
        mark = record.mark
        if mark is not None and mark[3] > self._newest_answered:
            self._newest_answered = mark[3]

    def throttled(self, record: Record, *, alone: bool) -> bool:
        """Count a 429 for `record`; whether it ends the record.

        It is a strike if, since the record's last 429 (or its first send), others were answered and none
        met a 429; or if nothing else was in flight (`alone`), and others were answered since its first.
        Only calls that were sent since then count: late answers to older ones, which drain while the
        service is busy, say nothing about the record.
        """
        sends, throttles, first, number = record.mark or (self._sends, self._throttles, None, 0)
        singled_out = self._newest_answered > sends and self._throttles == throttles
        if singled_out or (alone and first is not None and self._newest_answered > first):
            record.strikes += 1
        self._throttles += 1
        record.mark = (self._sends, self._throttles, self._sends if first is None else first, number)
        return record.strikes >= MAX_STRIKES
