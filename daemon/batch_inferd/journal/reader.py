"""What a chunk's journals say, when a lease begins: which records have ended, and how far the others are."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from batch_inferd.journal.format import Answer, Attempt, Failure, Missing, TakenBack
from batch_inferd.journal.names import chunk_folder, chunk_journals
from batch_inferd.journal.quarantine import Quarantine
from batch_inferd.journal.scan import Scanned, scan_journal
from batch_inferd.seams.files import Directory, sync

Kind = Literal["answer", "error", "missing"]
ABSENT = "absent"  # the class of a failure: a batch ended without a result of the record


@dataclass(slots=True)
class LineState:
    """Where a record that has not ended stands, from its failed attempts of the current round.

    `attempts` is the highest attempt number, `charged` how many used up a retry; `not_before` is seconds
    since 1970; `failure`, `status` and `message` are those of the last one.

    `online`: online calls finish it; what batches charged it before is forgiven. `told` is the last
    failure that was more than the absence of a result: class, status and message. `submission` is the
    batch that its last attempt in one was made in.
    """

    attempts: int = 0
    charged: int = 0
    strikes: int = 0
    outages: int = 0
    not_before: float = 0.0
    failure: str | None = None
    status: int | None = None
    message: str = ""
    t: float = 0.0
    online: bool = False
    told: tuple[str, int | None, str] | None = field(default=None, compare=False)
    submission: str = ""
    _told_t: float = field(default=0.0, repr=False, compare=False)
    _submitted: int = field(default=0, repr=False, compare=False)  # the attempt of `submission`
    _moved: int = field(default=0, repr=False, compare=False)  # the attempt that moved it
    _charges: tuple[int, ...] = field(default=(), repr=False, compare=False)  # attempts that were charged
    _struck: tuple[int, int] = field(default=(0, 0), repr=False, compare=False)  # attempt, strikes by then

    def take(self, attempt: Attempt) -> None:
        """One more attempt of the current round. Journals are read by name, so in any order."""
        number = attempt.attempt
        self.attempts = max(self.attempts, number)
        self.outages = max(self.outages, attempt.outages)
        if attempt.move:
            self.online = True
            self._moved = max(self._moved, number)
        if attempt.charged:
            self._charges += (number,)
        if attempt.strikes and (number, attempt.strikes) > self._struck:
            self._struck = number, attempt.strikes
        self.charged = sum(1 for charge in self._charges if charge > self._moved)
        self.strikes = self._struck[1] if self._struck[0] > self._moved else 0
        if attempt.submission and number >= self._submitted:
            self._submitted, self.submission = number, attempt.submission
        if attempt.failure != ABSENT and attempt.t >= self._told_t:
            self._told_t = attempt.t
            self.told = attempt.failure, attempt.status, attempt.message
        if attempt.t >= self.t:
            self.t = attempt.t
            self.not_before = attempt.not_before
            self.failure = attempt.failure
            self.status = attempt.status
            self.message = attempt.message


@dataclass(slots=True)
class ChunkState:
    """All that a chunk's journals hold, as it matters in one round."""

    round: int
    terminals: dict[int, Kind] = field(default_factory=dict)  # line -> how it ended, in the newest round
    open_lines: dict[int, LineState] = field(default_factory=dict)  # only lines with failed attempts
    retries: int = 0  # charged attempts, of all rounds
    failures: Counter[str] = field(default_factory=Counter)  # failed attempts by class, of all rounds
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_unknown: int = 0  # answers that did not tell
    tokens_cached: int = 0  # of tokens_in
    batch_in: int = 0  # of tokens_in, those of answers that batches brought; the next two likewise
    batch_out: int = 0
    batch_cached: int = 0
    extras: int = 0  # terminal records beside the one that counts
    quarantined: int = 0  # damaged lines; their records are done again
    torn: int = 0  # journals whose last line was cut short
    newer: dict[int, int] = field(default_factory=dict, repr=False)  # round of a failure later than `round`
    taken: dict[int, int] = field(default_factory=dict, repr=False)  # line -> the round that took it back

    @property
    def answered(self) -> int:
        """Records with an answer, of any round."""
        return self._count("answer")

    @property
    def error(self) -> int:
        """Records that failed in this round."""
        return self._count("error")

    @property
    def missing(self) -> int:
        """Records that no answer came for, in this round."""
        return self._count("missing")

    def _count(self, kind: Kind) -> int:
        return sum(1 for found in self.terminals.values() if found == kind)

    def counts(self) -> dict[str, int]:
        """What task.db keeps of a chunk."""
        return {
            "answered": self.answered,
            "error": self.error,
            "missing": self.missing,
            "retries": self.retries,
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "tokens_unknown": self.tokens_unknown,
            "tokens_cached": self.tokens_cached,
            "batch_in": self.batch_in,
            "batch_out": self.batch_out,
            "batch_cached": self.batch_cached,
        }

    def used(self, tokens_in: int | None, tokens_out: int | None, cached: int, *, batch: bool) -> None:
        """Count the tokens of one more answer; None where it did not tell."""
        self.tokens_in += tokens_in or 0
        self.tokens_out += tokens_out or 0
        self.tokens_unknown += tokens_in is None or tokens_out is None
        self.tokens_cached += cached
        if batch:
            self.batch_in += tokens_in or 0
            self.batch_out += tokens_out or 0
            self.batch_cached += cached

    def is_done(self, line: int) -> bool:
        """Whether line `line` (of the input) has ended."""
        return line in self.terminals

    def state(self, line: int) -> LineState:
        """Where a line stands that has not ended."""
        return self.open_lines.get(line) or LineState()


def read_chunk(
    directory: Directory,
    chunk: int,
    round: int,  # noqa: A002
    *,
    repair: bool = False,
) -> ChunkState:
    """Read all journals of a chunk. Blocks. Raises OSError.

    What was taken back has not ended by anything of an earlier round, whatever `round` is asked for.

    Args:
        directory: the task's folder.
        chunk: from 1.
        round: errors, missing records and attempts of earlier rounds are history; answers are not.
        repair: cut torn last lines, list damaged ones in the chunk's quarantine file, and make all of it
            durable. Only when no writer of this chunk lives.
    """
    state = ChunkState(round)
    quarantine = Quarantine(directory, chunk) if repair else None
    names = chunk_journals(directory, chunk)
    for name in names:
        fd = directory.open(name, os.O_RDWR if repair else os.O_RDONLY)
        try:
            for scanned in scan_journal(fd):
                if scanned.torn:
                    state.torn += 1
                    if repair:
                        os.ftruncate(fd, scanned.offset)
                elif scanned.entry is None:
                    state.quarantined += 1
                    if quarantine is not None:
                        quarantine.add(name, fd, scanned)
                else:
                    _take(state, scanned)
            if repair:
                sync(fd, name)  # its writer may have been killed before it did
        finally:
            os.close(fd)
    if repair and names:
        directory.sync(chunk_folder(chunk))
    for line in state.terminals:
        state.open_lines.pop(line, None)
    return state


def _take(state: ChunkState, scanned: Scanned) -> None:
    match scanned.entry:
        case TakenBack() as taken:
            state.taken[taken.line] = max(taken.round, state.taken.get(taken.line, 0))
        case Answer() as answer if answer.round < state.taken.get(answer.line, 0):
            batch = answer.path == "batch"
            state.used(answer.tokens_in, answer.tokens_out, answer.tokens_cached, batch=batch)
        case Answer() as answer:
            if state.terminals.get(answer.line) == "answer":
                state.extras += 1
                return
            if answer.line in state.terminals:
                state.extras += 1  # it ended twice in this round
            state.terminals[answer.line] = "answer"
            batch = answer.path == "batch"
            state.used(answer.tokens_in, answer.tokens_out, answer.tokens_cached, batch=batch)
        case Failure() | Missing() as ended if ended.round >= _first_round(state, ended.line):
            kind = state.terminals.get(ended.line)
            if kind is not None:
                state.extras += 1
                if kind == "answer" or ended.round <= state.newer.get(ended.line, state.round):
                    return
            if ended.round > state.round:
                state.newer[ended.line] = ended.round
            state.terminals[ended.line] = "error" if isinstance(ended, Failure) else "missing"
        case Attempt() as attempt:
            state.retries += attempt.charged
            state.failures[attempt.failure] += 1
            first = _first_round(state, attempt.line)
            if attempt.round >= first and attempt.line not in state.terminals:
                state.open_lines.setdefault(attempt.line, LineState()).take(attempt)


def _first_round(state: ChunkState, line: int) -> int:
    """The round before which the failures of a line are history."""
    return max(state.round, state.taken.get(line, 0))
