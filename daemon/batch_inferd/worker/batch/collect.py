"""Collecting: the results of a submission, demultiplexed into the journals of its chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_inferd.failures import Action, Verdict
from batch_inferd.journal.reader import ABSENT, read_chunk
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.worker.batch.chunkfile import ChunkFile
from batch_inferd.worker.batch.index import Expected, ResultIndex
from batch_inferd.worker.batch.jobjournal import JobJournal
from batch_inferd.worker.batch.judge import CANCELLED, EXPIRED, judge_problem, judge_result
from batch_inferd.worker.batch.outcomes import Counts, Outcomes

if TYPE_CHECKING:
    from batch_inferd.backends.reply import Usage
    from batch_inferd.worker.batch.context import JobContext
    from batch_inferd.worker.batch.messages import CollectChunk, CollectParams

_CHECK_EVERY = 256  # lines
_BATCH_FAILED = "batch_failed"
# How the batch ended -> class of its lines without a result, and what is said of them without its own words
_WITHOUT = {
    "completed": (ABSENT, "the batch completed, and no result file names the record"),
    "expired": (EXPIRED, "the batch expired before it was the record's turn"),
    "cancelled": (CANCELLED, "the batch was cancelled before it was the record's turn"),
    "failed": (_BATCH_FAILED, "the batch failed as a whole"),
    "refused": (_BATCH_FAILED, "the batch was refused as a whole"),
}


class Collector:
    """One `collect` job. Blocks; see `run`."""

    def __init__(self, context: JobContext, params: CollectParams) -> None:
        self._context = context
        self._params = params
        self._chunks = sorted(params.chunks, key=lambda row: row.first_line)
        self._expected = Expected(row.ranges for row in self._chunks)
        self._problems = self._named()
        cls, text = _WITHOUT[params.ended]
        # The batch's own words are about all of it; a line that a completed one forgot is not.
        told = "" if params.ended == "completed" else context.prepared.redactor.text(params.message)
        self._without = Verdict(Action.RETRY, cls, told or text)
        self.counts = Counts()

    def _named(self) -> dict[int, tuple[str, str]]:
        """Position in the packed file -> code and message of the first complaint about that line."""
        found: dict[int, tuple[str, str]] = {}
        if self._params.ended == "refused":
            for line, code, message in self._params.problems:
                if line is not None:
                    found.setdefault(line - 1, (code, message))
        return found

    def run(self) -> dict[str, Any]:
        """The job's result; all that it speaks of is durable. Raises OSError, JobCancelled."""
        index = ResultIndex(self._context, self._expected, f"{self._params.name}.quarantine.jsonl")
        try:
            index.read_files(self._params.files)
            if index.found < self._params.least:
                return {"short": index.found}
            failpoint("batch.demultiplexed")
            position = 0
            chunks = []
            for row in self._chunks:
                chunks.append(self._collect(row, index, position))
                position += sum(last + 1 - first for first, last in row.ranges)
        finally:
            index.close()
        failpoint("batch.journaled")
        return {
            "chunks": chunks,
            **self.counts.to_json(),
            "unknown": index.unknown,
            "duplicate": index.duplicate,
            "unreadable": index.unreadable,
            "quarantine": index.quarantine,
        }

    def _collect(self, row: CollectChunk, index: ResultIndex, position: int) -> dict[str, Any]:
        context, params = self._context, self._params
        context.check()
        state = read_chunk(context.directory, row.chunk, params.round, repair=True)
        journal = JobJournal(context.directory, row.chunk, context.job, context.guard)
        source = ChunkFile(context.directory, row)
        try:
            outcomes = Outcomes(context, params, row.chunk, source, state, journal, self.counts)
            for first, last in row.ranges:
                if first < source.first or last >= source.first + len(source):
                    raise ValueError(f"lines {first} to {last} are not in chunk {row.chunk}")
                for number in range(first, last + 1):
                    if not position % _CHECK_EVERY:
                        context.check()
                    kind = outcomes.ended(number)
                    if kind is None:
                        self._settle(number, position, index, outcomes)
                    else:
                        self.counts.found(kind, self._usage(position, index) if kind == "answer" else None)
                    position += 1
            journal.finish()
            open_lines = source.open_lines(state)
            online = source.online_lines(state, open_lines)
        finally:
            source.close()
            journal.abandon()
        return {
            "chunk": row.chunk,
            "counts": state.counts(),
            "open": open_lines.count(1),
            "online": len(online),
        }

    def _settle(self, number: int, position: int, index: ResultIndex, outcomes: Outcomes) -> None:
        params = self._params
        if params.ended == "refused":
            self._settle_refused(number, position, outcomes)
            return
        result = index.result(position)
        verdict = self._without if result is None else judge_result(result, self._context.prepared)
        if result is not None and verdict.action is Action.ANSWER:
            outcomes.answer(number, result, verdict)
        elif not outcomes.attempted(number):
            free = params.ours and verdict.cls in (EXPIRED, CANCELLED)
            outcomes.failed(number, verdict, result, free=free)

    def _usage(self, position: int, index: ResultIndex) -> Usage | None:
        """What a result was billed for whose answer an earlier run has journaled; None: nothing says it."""
        result = index.result(position)
        verdict = None if result is None else judge_result(result, self._context.prepared)
        return verdict.usage if verdict is not None and verdict.action is Action.ANSWER else None

    def _settle_refused(self, number: int, position: int, outcomes: Outcomes) -> None:
        problem = self._problems.get(position)
        if problem is not None:
            outcomes.refused(number, judge_problem(*problem, self._context.prepared))
        elif self._params.fallback == "all" and not outcomes.attempted(number):
            outcomes.failed(number, self._without, None, free=True)
