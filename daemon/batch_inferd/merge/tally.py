"""What merge counts over a task, in memory that does not grow with it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from batch_inferd.journal.latencies import Latencies

if TYPE_CHECKING:
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
    latencies: Latencies = field(default_factory=Latencies)  # of online calls
    attempts: int = 0  # tries of all records that ended, in all rounds
    failed: int = 0  # failed attempts that did not end their record
    retries: int = 0  # of these, those that used up a retry
    failures: Counter[str] = field(default_factory=Counter)  # failed attempts by class
    errors: Counter[str] = field(default_factory=Counter)  # records in the error file by class
    paths: Counter[str] = field(default_factory=Counter)  # answers by the way they came
    extras: int = 0  # terminal records beside the one that counts
    quarantined: int = 0  # damaged lines
    torn: int = 0  # journals whose last line was cut short

    def add_index(self, index: Index, records: int) -> None:
        """Count all that a journal with this index holds, of terminal records of `records` lines."""
        failed = sum(map(len, index.errors.values()))
        answers = records - failed - len(index.missing)
        if answers:
            self.paths["online"] += answers
        self.latencies.add_buckets(index.histogram(), *index.ms)
        tokens_in, tokens_out, unknown = index.tokens
        self.tokens_in += tokens_in
        self.tokens_out += tokens_out
        self.tokens_unknown += unknown
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
