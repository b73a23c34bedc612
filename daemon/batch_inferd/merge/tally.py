"""What merge counts over a task, in memory that does not grow with it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from batch_inferd.journal.latencies import Latencies
from batch_inferd.money.used import Used

if TYPE_CHECKING:
    from batch_inferd.journal.format import Answer
    from batch_inferd.journal.index import Index


@dataclass(slots=True)
class Counts:
    """Records by outcome, and blank lines; for a chunk or a task."""

    input: int = 0
    output: int = 0
    error: int = 0
    missing: int = 0
    pending: int = 0
    blank: int = 0

    def add(self, other: Counts) -> None:
        """Count another part of the task in."""
        self.input += other.input
        self.output += other.output
        self.error += other.error
        self.missing += other.missing
        self.pending += other.pending
        self.blank += other.blank

    def to_json(self) -> dict[str, int]:
        """In the order of every other listing."""
        return {
            "input": self.input,
            "output": self.output,
            "error": self.error,
            "missing": self.missing,
            "pending": self.pending,
            "blank": self.blank,
        }


@dataclass(slots=True)
class Tally:
    """Sums over all journals of a task."""

    counts: Counts = field(default_factory=Counts)
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_unknown: int = 0  # answers that did not tell
    tokens_cached: int = 0  # of tokens_in
    batch_in: int = 0  # of tokens_in: what batches brought; the next two likewise
    batch_out: int = 0
    batch_cached: int = 0
    answers: int = 0  # all that the tokens are of, without those that were taken back
    latencies: Latencies = field(default_factory=Latencies)  # of online calls
    attempts: int = 0  # tries of all records that ended, in all rounds
    failed: int = 0  # failed attempts that did not end their record
    retries: int = 0  # of these, those that used up a retry
    failures: Counter[str] = field(default_factory=Counter)  # failed attempts by class
    errors: Counter[str] = field(default_factory=Counter)  # records in the error file by class
    paths: Counter[str] = field(default_factory=Counter)  # answers by the way they came
    taken_back: int = 0  # answers that do not count any more; their tokens do
    extras: int = 0  # terminal records beside the one that counts
    quarantined: int = 0  # damaged lines
    torn: int = 0  # journals whose last line was cut short

    def add_answer(self, answer: Answer, *, taken_back: bool = False) -> None:
        """Count an answer in; of one that was taken back, what was paid for it."""
        if taken_back:
            self.taken_back += 1
        else:
            self.answers += 1
            self.paths[answer.path] += 1
        self.tokens_in += answer.tokens_in or 0
        self.tokens_out += answer.tokens_out or 0
        self.tokens_unknown += answer.tokens_in is None or answer.tokens_out is None
        self.tokens_cached += answer.tokens_cached
        if answer.path == "batch":
            self.batch_in += answer.tokens_in or 0
            self.batch_out += answer.tokens_out or 0
            self.batch_cached += answer.tokens_cached
        else:  # a batch's age says nothing about a call
            self.latencies.add(answer.ms)

    def used(self) -> Used:
        """What is paid for, so far."""
        return Used(
            answered=self.answers,
            unknown=self.tokens_unknown,
            input=self.tokens_in,
            cached=self.tokens_cached,
            output=self.tokens_out,
            batch_input=self.batch_in,
            batch_cached=self.batch_cached,
            batch_output=self.batch_out,
        )

    def add_index(self, index: Index, records: int) -> None:
        """Count all that a journal with this index holds, of terminal records of `records` lines."""
        failed = sum(map(len, index.errors.values()))
        answers = records - failed - len(index.missing)
        if answers:
            self.answers += answers
            self.paths["online"] += answers
        self.latencies.add_buckets(index.histogram(), *index.ms)
        tokens_in, tokens_out, unknown = index.tokens
        self.tokens_in += tokens_in
        self.tokens_out += tokens_out
        self.tokens_unknown += unknown
        self.tokens_cached += index.cached
        self.attempts += index.attempts
        self.failed += index.failed
        self.retries += index.retries
        self.failures.update(index.failures)
        for failure, lines in index.errors.items():
            self.errors[failure] += len(lines)


class Problems:
    """What speaks against the identity: all are counted, the first hundred are kept.

    `chunks` has the numbers of all chunks with problems, but never more than the first `KEPT_CHUNKS`.
    """

    KEPT = 100
    KEPT_CHUNKS = 10_000

    def __init__(self) -> None:
        self.count = 0
        self.chunks: set[int] = set()
        self.first: list[dict[str, Any]] = []

    def add(self, chunk: int | None, line: int | None, what: str, **detail: Any) -> None:
        """Note a problem with line `line` of the input; None: with the chunk, or the task, as a whole."""
        self.count += 1
        if chunk is not None and len(self.chunks) < self.KEPT_CHUNKS:
            self.chunks.add(chunk)
        if len(self.first) < self.KEPT:
            self.first.append({"chunk": chunk, "line": line, "what": what, **detail})
