"""What becomes of the records of one chunk, written into the job's journal for it.

The rules are those of an online call, with what only batches have: no result at all, and a batch that
ended as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.backends.body import InvalidLine, custom_id_of
from batch_inferd.backends.online import shown_body
from batch_inferd.backends.reply import Usage
from batch_inferd.failures import Action, Verdict, blocked_text
from batch_inferd.journal.format import encode_answer, encode_attempt, encode_error, encode_missing
from batch_inferd.journal.reader import ABSENT, LineState
from batch_inferd.journal.record import error_line, output_line
from batch_inferd.worker.strikes import MAX_STRIKES

if TYPE_CHECKING:
    from batch_inferd.backends.batch.provider import ResultLine
    from batch_inferd.journal.reader import ChunkState, Kind
    from batch_inferd.worker.batch.chunkfile import ChunkFile
    from batch_inferd.worker.batch.context import JobContext
    from batch_inferd.worker.batch.jobjournal import JobJournal
    from batch_inferd.worker.batch.messages import CollectParams

ONLINE = "online"
_NOTES = 100
_UNKNOWN = Usage(None, None)


class Note(NamedTuple):
    """A failure for the task's log. `ended`: it was the record's last."""

    chunk: int
    line: int
    attempt: int
    cls: str
    message: str
    ended: bool
    charged: int


@dataclass(slots=True)
class Counts:
    """What a submission's results came to, earlier runs of the same job included."""

    answered: int = 0
    failed: int = 0
    retried: int = 0
    missing: int = 0
    moved: int = 0
    named: int = 0  # of those that failed: the validation named them
    tokens_in: int = 0  # of the answers; the next two likewise
    tokens_out: int = 0
    tokens_cached: int = 0
    tokens_unknown: int = 0  # answers that did not tell
    blocked: Verdict | None = None  # the first
    notes: list[Note] = field(default_factory=list)

    def found(self, kind: Kind, usage: Usage | None = None) -> None:
        """A record had ended before; `usage` is what its answer was billed for, None: nobody says."""
        if kind == "answer":
            self.answer(usage or _UNKNOWN)
        elif kind == "error":
            self.failed += 1
        else:
            self.missing += 1

    def answer(self, usage: Usage) -> None:
        """One more is answered."""
        self.answered += 1
        self.tokens_in += usage.tokens_in or 0
        self.tokens_out += usage.tokens_out or 0
        self.tokens_cached += usage.tokens_cached or 0
        self.tokens_unknown += usage.tokens_in is None or usage.tokens_out is None

    def block(self, verdict: Verdict) -> None:
        """The service refuses the account, or the model."""
        if self.blocked is None:
            self.blocked = verdict

    def note(self, note: Note) -> None:
        """Keep a note, if there are not many yet."""
        if len(self.notes) < _NOTES:
            self.notes.append(note)

    def to_json(self) -> dict[str, object]:
        """As the daemon is told."""
        verdict = self.blocked
        return {
            "answered": self.answered,
            "failed": self.failed,
            "retried": self.retried,
            "missing": self.missing,
            "moved": self.moved,
            "named": self.named,
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "tokens_cached": self.tokens_cached,
            "tokens_unknown": self.tokens_unknown,
            "blocked": None
            if verdict is None
            else {
                "cls": verdict.cls,
                "text": blocked_text(verdict).to_wire(),
                "retry_after": verdict.retry_after,
            },
        }


class Outcomes:
    """Writes outcomes, and keeps `state` as the journals say. Everything here raises OSError."""

    def __init__(
        self,
        context: JobContext,
        params: CollectParams,
        chunk: int,
        source: ChunkFile,
        state: ChunkState,
        journal: JobJournal,
        counts: Counts,
    ) -> None:
        self._prepared = context.prepared
        self._batch_id = context.plan.batch_id
        self._params = params
        self._chunk = chunk
        self._source = source
        self._state = state
        self._journal = journal
        self._counts = counts
        self._now = context.clock.now()

    def answer(self, number: int, result: ResultLine, verdict: Verdict) -> None:
        """The record's answer: terminal."""
        state = self._state
        known = state.open_lines.get(number)
        usage = verdict.usage
        rec = output_line(
            self._batch_id,
            self._custom_id(number),
            result.status or 200,
            result.request_id,
            result.body or b"",
        )
        self._journal.add(
            encode_answer(
                line=number,
                round=self._params.round,
                attempt=1 if known is None else known.attempts + 1,
                t=self._now,
                ms=self._params.ms,
                tokens_in=usage.tokens_in,
                tokens_out=usage.tokens_out,
                path="batch",
                rec=rec,
                tokens_cached=usage.tokens_cached,
            )
        )
        state.terminals[number] = "answer"
        state.used(usage.tokens_in, usage.tokens_out, usage.tokens_cached or 0, batch=True)
        self._counts.answer(usage)

    def failed(self, number: int, verdict: Verdict, result: ResultLine | None, *, free: bool = False) -> None:
        """An attempt that came to something else. `free`: a RETRY that does not use up a retry."""
        line = self._state.state(number)
        if verdict.action is Action.RETRY:
            self._retry(number, line, verdict, result, free=free)
        elif verdict.action is Action.THROTTLE:
            strikes = line.strikes + 1
            if strikes >= MAX_STRIKES:
                self._end(number, line, verdict, result)
            else:
                self._again(number, line, verdict, result, strikes=strikes)
        elif verdict.action is Action.BLOCK and not self._is_own_model(number, verdict):
            self._counts.block(verdict)
            self._again(number, line, verdict, result)
        else:
            self._end(number, line, verdict, result)

    def refused(self, number: int, verdict: Verdict) -> None:
        """The batch was never begun for this line's sake; what blocks it is nobody's attempt."""
        if verdict.action is Action.BLOCK and not self._is_own_model(number, verdict):
            self._counts.block(verdict)
            return
        self._end(number, self._state.state(number), verdict, None)
        self._counts.named += 1

    def ended(self, number: int) -> Kind | None:
        """How the record has ended, if it has."""
        return self._state.terminals.get(number)

    def attempted(self, number: int) -> bool:
        """Whether an earlier run of this job has journaled the failed attempt; if so, it is counted."""
        line = self._state.open_lines.get(number)
        if line is None or line.submission != self._params.submission:
            return False
        if line.online:
            self._counts.moved += 1
        else:
            self._counts.retried += 1
        return True

    def _retry(
        self, number: int, line: LineState, verdict: Verdict, result: ResultLine | None, *, free: bool
    ) -> None:
        if free or line.charged < self._params.max_retry:
            self._again(number, line, verdict, result, charged=not free)
        elif self._params.fallback:
            self._again(number, line, verdict, result, charged=True, move=True)
        elif verdict.cls != ABSENT:
            self._end(number, line, verdict, result)
        elif line.told is None:
            self._missing(number, line)
        else:
            cls, status, message = line.told
            self._end(number, line, Verdict(Action.END, cls, message), None, status)

    def _again(
        self,
        number: int,
        line: LineState,
        verdict: Verdict,
        result: ResultLine | None,
        *,
        charged: bool = False,
        strikes: int | None = None,
        move: bool = False,
    ) -> None:
        """A failed attempt that is not the end."""
        move = move or self._params.fallback == "all"
        self._journal.add(
            encode_attempt(
                line=number,
                round=self._params.round,
                attempt=line.attempts + 1,
                t=self._now,
                failure=verdict.cls,
                status=None if result is None else result.status,
                message=verdict.message,
                not_before=self._now + (verdict.retry_after or 0.0),
                charged=charged,
                strikes=line.strikes if strikes is None else strikes,
                outages=line.outages,
                move=ONLINE if move else "",
                submission=self._params.submission,
            )
        )
        self._state.retries += charged
        if move:
            self._state.open_lines.setdefault(number, line).online = True
            self._counts.moved += 1
        else:
            self._counts.retried += 1
        used = line.charged + charged
        self._note(number, line, verdict, ended=False, charged=used if charged else 0)

    def _end(
        self,
        number: int,
        line: LineState,
        verdict: Verdict,
        result: ResultLine | None,
        status: int | None = None,
    ) -> None:
        """The record's error: terminal."""
        body = None if result is None or result.body is None else shown_body(self._prepared, result.body)
        rec = error_line(
            self._batch_id,
            self._custom_id(number),
            code=verdict.cls,
            message=verdict.message,
            attempts=line.attempts + 1,
            line=number,
            status=status if result is None else result.status,
            request_id=None if result is None else result.request_id,
            body=body,
        )
        self._journal.add(
            encode_error(
                line=number,
                round=self._params.round,
                attempt=line.attempts + 1,
                t=self._now,
                failure=verdict.cls,
                rec=rec,
            )
        )
        self._state.terminals[number] = "error"
        self._counts.failed += 1
        self._note(number, line, verdict, ended=True, charged=0)

    def _missing(self, number: int, line: LineState) -> None:
        """No answer of any kind ever came: terminal."""
        self._journal.add(
            encode_missing(line=number, round=self._params.round, attempt=line.attempts + 1, t=self._now)
        )
        self._state.terminals[number] = "missing"
        self._counts.missing += 1

    def _note(self, number: int, line: LineState, verdict: Verdict, *, ended: bool, charged: int) -> None:
        if verdict.cls == "cancelled" and not charged and not ended:
            return  # we did that: one line on the batch says it
        self._counts.note(
            Note(self._chunk, number, line.attempts + 1, verdict.cls, verdict.message, ended, charged)
        )

    def _custom_id(self, number: int) -> bytes:
        return custom_id_of(self._source.read(number - self._source.first), number)

    def _is_own_model(self, number: int, verdict: Verdict) -> bool:
        """Whether the service lacks a model that only this record asks for."""
        if verdict.cls != "model":
            return False
        try:
            return self._prepared.builder.merge(
                self._source.read(number - self._source.first), number
            ).own_model
        except InvalidLine:
            return False
