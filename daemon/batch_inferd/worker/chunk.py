"""A leased chunk: its files, its counters, and the writing of what happens to its records.

Nothing counts before it stands in the journal. All methods that write raise OSError, and then nothing
was recorded.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from batch_inferd.backends import reply as replies
from batch_inferd.backends.online import Outcome, Prepared, shown_body
from batch_inferd.journal import format as journal_format
from batch_inferd.journal.index import IndexBuilder
from batch_inferd.journal.record import RAW_BYTES, error_line, output_line
from batch_inferd.lines import read_range
from batch_inferd.worker.chunkjournal import ChunkJournal
from batch_inferd.worker.counters import Counters
from batch_inferd.worker.fresh import Fresh
from batch_inferd.worker.record import Lease, Record

if TYPE_CHECKING:
    import asyncio

    from batch_inferd.backends.reply import Usage
    from batch_inferd.failures import Verdict
    from batch_inferd.seams.clock import Clock
    from batch_inferd.worker.guard import WriteGuard
    from batch_inferd.worker.opening import Opened

_ENDINGS = ("drained", "aborted", "fault")  # a later one replaces an earlier one
_READ_AHEAD = 64 * 1024  # bytes
_WAIT_MAX_S = 3600.0  # a recovered `not_before` further away means that the clock has jumped


class LeasedChunk:
    """One lease. `sending` ends for good when the lease is to end; `ending` says why."""

    def __init__(
        self, lease: Lease, opened: Opened, prepared: Prepared, clock: Clock, guard: WriteGuard
    ) -> None:
        self.lease = lease
        self.sending = True
        self.ending: str | None = None
        self.closed = False
        self.active = 0  # records whose outcome is not settled yet
        self.counts = Counters.from_journals(opened.state, len(opened.todo), opened.blank)
        self.journal = ChunkJournal(opened.writer, guard, prepared.plan.durability == "strict")
        self.directory = opened.directory
        self.index = IndexBuilder(lease.round)  # of what this lease's own journal holds
        self._source = opened.source
        self._clock = clock
        self.calls: set[asyncio.Task[None]] = set()  # those that `cancel_calls` may cancel
        self._opened: Opened | None = opened
        self._ahead = b""  # a piece of the chunk file, from offset `_ahead_at`
        self._ahead_at = 0

    def records(self) -> tuple[Fresh, list[tuple[float, Record]]]:
        """The open records: those never sent, and those sent before with the monotonic time they wait for.

        Call once, at the beginning.
        """
        waiting: list[tuple[float, Record]] = []
        if self._opened is None:
            raise RuntimeError("the records of a chunk are asked for once")
        lines, todo, first = self._opened.lines, self._opened.todo, self.lease.first_line
        sent_before = self._opened.state.open_lines
        if not sent_before:
            self._opened = None
            return Fresh(self, lines, todo), waiting
        now, wall = self._clock.monotonic(), self._clock.now()
        for index in todo:
            known = sent_before.get(first + index)
            if known is None:
                continue
            record = Record(self, first + index, lines.offset(index), lines.length(index))
            record.attempts, record.charged = known.attempts, known.charged
            record.strikes, record.outages = known.strikes, known.outages
            record.waiting = True
            self.counts.waiting += 1
            waiting.append((now + min(max(0.0, known.not_before - wall), _WAIT_MAX_S), record))
        self._opened = None
        return Fresh(self, lines, [index for index in todo if first + index not in sent_before]), waiting

    # calls

    def read(self, record: Record, limit: int | None = None) -> bytes:
        """A record's bytes, at most `limit`. Raises OSError.

        Records are mostly sent in order: what stands behind one is read with it.
        """
        length = record.length if limit is None else min(record.length, limit)
        begin = record.offset - self._ahead_at
        if begin >= 0 and begin + length <= len(self._ahead):
            return self._ahead[begin : begin + length]
        data = read_range(self._source, record.offset, max(length, _READ_AHEAD))
        if len(data) < length:
            raise OSError(errno.EIO, "the chunk file has become shorter", self.lease.chunk_file)
        if length < _READ_AHEAD:
            self._ahead, self._ahead_at = data, record.offset
        return data[:length]

    def taken(self, record: Record) -> None:
        """The record is about to be sent."""
        self.active += 1
        self.counts.in_flight += 1
        if record.waiting:
            record.waiting = False
            self.counts.waiting -= 1

    def returned(self, record: Record) -> None:
        """Its call is over, and it has not ended: it waits."""
        self.counts.in_flight -= 1
        self.counts.waiting += 1
        record.waiting = True

    def put_off(self, record: Record) -> None:
        """It was taken, and is not sent after all: it is as it was before."""
        self.counts.in_flight -= 1
        if record.attempts:
            self.counts.waiting += 1
            record.waiting = True

    def cancel_calls(self) -> None:
        """Give up what is in flight."""
        for task in tuple(self.calls):
            task.cancel()

    def end(self, reason: str) -> None:
        """Send nothing any more; the lease is given back for `reason` once nothing is in flight."""
        self.sending = False
        if self.ending is None or _ENDINGS.index(reason) > _ENDINGS.index(self.ending):
            self.ending = reason

    @property
    def given_up(self) -> bool:
        """Whether calls in flight are to be given up."""
        return self.ending not in (None, _ENDINGS[0])

    def close(self) -> None:
        """Give all files back, without a sync. Raises OSError."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.directory.close)
            stack.callback(os.close, self._source)
            self.journal.close()

    # what happened

    def answer_line(
        self, record: Record, prepared: Prepared, custom_id: bytes, outcome: Outcome
    ) -> tuple[bytes, int]:
        """The journal line of the record's answer, and the bytes of its `rec`."""
        reply, verdict = outcome.reply, outcome.verdict
        if reply is None:
            raise ValueError("an answer without a reply")
        rec = output_line(
            prepared.plan.batch_id, custom_id, reply.status, replies.request_id(reply.headers), reply.body
        )
        usage = verdict.usage
        line = journal_format.encode_answer(
            line=record.line,
            round=self.lease.round,
            attempt=record.attempts,
            t=self._clock.now(),
            ms=outcome.ms,
            tokens_in=usage.tokens_in,
            tokens_out=usage.tokens_out,
            path="online",
            rec=rec,
            tokens_cached=usage.tokens_cached,
        )
        return line, len(rec)

    def answered(self, record: Record, at: int, size: int, rec: int, ms: int, usage: Usage) -> None:
        """The record's answer stands in the journal, in `size` bytes from offset `at`: it is terminal."""
        tokens = (usage.tokens_in, usage.tokens_out, usage.tokens_cached)
        self.index.answer(record.line, at, size, rec, ms, record.attempts, *tokens)
        self.counts.in_flight -= 1
        self.counts.add_answer(usage)

    async def fail(
        self,
        record: Record,
        prepared: Prepared,
        custom_id: bytes,
        verdict: Verdict,
        outcome: Outcome | None,
    ) -> None:
        """The record's error: terminal. Without an outcome the line itself is at fault, and is shown."""
        reply = outcome.reply if outcome is not None else None
        rec = error_line(
            prepared.plan.batch_id,
            custom_id,
            code=verdict.cls,
            message=verdict.message,
            attempts=record.attempts,
            line=record.line,
            status=None if reply is None else reply.status,
            request_id=None if reply is None else replies.request_id(reply.headers),
            body=None if reply is None else shown_body(prepared, reply.body),
            raw=self.read(record, RAW_BYTES + 1) if outcome is None else None,
        )
        line = journal_format.encode_error(
            line=record.line,
            round=self.lease.round,
            attempt=record.attempts,
            t=self._clock.now(),
            failure=verdict.cls,
            rec=rec,
        )
        at = await self.journal.commit(line)
        self.index.error(record.line, at, len(line), len(rec), record.attempts, verdict.cls)
        if record.waiting:
            record.waiting = False
            self.counts.waiting -= 1
        else:
            self.counts.in_flight -= 1
        self.counts.error += 1

    def attempt_failed(
        self, record: Record, verdict: Verdict, status: int | None, wait_s: float, charged: bool
    ) -> None:
        """A failed attempt that is not the end: journaled, so that a kill does not reset it."""
        now = self._clock.now()
        self.journal.append(
            journal_format.encode_attempt(
                line=record.line,
                round=self.lease.round,
                attempt=record.attempts,
                t=now,
                failure=verdict.cls,
                status=status,
                message=verdict.message,
                not_before=now + wait_s,
                charged=charged,
                strikes=record.strikes,
                outages=record.outages,
            )
        )
        self.index.attempt(verdict.cls, charged)
        self.counts.retries += charged
        self.counts.throttled += verdict.cls == "rate_limited"
