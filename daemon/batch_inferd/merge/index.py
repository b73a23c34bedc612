"""A chunk's journals in memory: where the terminal record of each line stands.

A hundred thousand lines take about 4 MB here, whatever their length.
"""

from __future__ import annotations

import os
from array import array
from typing import TYPE_CHECKING

from batch_inferd.journal.format import Answer, Attempt, Failure, Missing, TakenBack
from batch_inferd.journal.names import lease_of
from batch_inferd.journal.scan import Scanned, scan_journal
from batch_inferd.lines import read_range

if TYPE_CHECKING:
    from batch_inferd.merge.tally import Problems, Tally
    from batch_inferd.seams.files import Directory

NONE, ANSWER, ERROR, MISSING = range(4)
_TWO_TERMINALS, _TWO_ANSWERS = 1, 2
_DOUBLES = {_TWO_TERMINALS: "two_terminals", _TWO_ANSWERS: "two_answers"}
_OPEN_FILES = 16

Terminal = Answer | Failure | Missing


class Journals:
    """A chunk's journals, opened as they are needed, a few at a time."""

    def __init__(self, directory: Directory, names: list[str]) -> None:
        self._directory = directory
        self._names = names
        self._open: dict[int, int] = {}  # position in names -> descriptor, oldest first

    def __len__(self) -> int:
        return len(self._names)

    def lease(self, number: int) -> str:
        """The lease that wrote a journal."""
        return lease_of(self._names[number])

    def fd(self, number: int) -> int:
        """The descriptor of a journal, valid until the next call. Raises OSError."""
        fd = self._open.get(number)
        if fd is None:
            if len(self._open) >= _OPEN_FILES:
                os.close(self._open.pop(next(iter(self._open))))
            fd = self._open[number] = self._directory.open(self._names[number], os.O_RDONLY)
        return fd

    def read(self, number: int, offset: int, length: int) -> bytes:
        """Bytes that were there when the journal was indexed. Raises OSError."""
        data = read_range(self.fd(number), offset, length)
        if len(data) != length:
            raise OSError(f"the journal {self._names[number]} became shorter while it was merged")
        return data

    def close(self) -> None:
        """Give all descriptors back."""
        while self._open:
            os.close(self._open.popitem()[1])


class Terminals:
    """For each line of a chunk, the terminal record that counts: an answer, else that of the newest round.

    What was taken back counts for its tokens and its attempts only.
    """

    def __init__(self, chunk: int, first_line: int, lines: int, tally: Tally, problems: Problems) -> None:
        """For a chunk of `lines` lines, the first of which is line `first_line` of the input."""
        self._chunk = chunk
        self._first = first_line
        self._tally = tally
        self._problems = problems
        self.kind = bytearray(lines)
        self.round = array("q", bytes(8 * lines))
        self.journal = array("q", bytes(8 * lines))
        self.rec_offset = array("q", bytes(8 * lines))
        self.rec_length = array("q", bytes(8 * lines))
        self._t = array("d", bytes(8 * lines))
        self._double = bytearray(lines)
        self._failure: dict[int, str] = {}  # only lines with an error
        self._taken: dict[int, int] = {}  # only lines that were taken back: the round that did it
        self.retries = 0

    def read(self, journals: Journals) -> None:
        """Index every journal. Raises OSError."""
        for number in range(len(journals)):
            for scanned in scan_journal(journals.fd(number)):
                if scanned.entry is None:
                    self._tally.torn += scanned.torn
                    self._tally.quarantined += not scanned.torn
                elif isinstance(scanned.entry, Attempt):
                    self._count_attempt(scanned.entry)
                elif isinstance(scanned.entry, TakenBack):
                    index = scanned.entry.line - self._first
                    self._taken[index] = max(scanned.entry.round, self._taken.get(index, 0))
                else:
                    self._take(scanned.entry, scanned, number)

    def _count_attempt(self, attempt: Attempt) -> None:
        self._tally.failed += 1
        self._tally.retries += attempt.charged
        self.retries += attempt.charged
        self._tally.failures[attempt.failure] += 1

    def _take(self, entry: Terminal, scanned: Scanned, journal: int) -> None:
        tally = self._tally
        tally.attempts += entry.attempt
        index = entry.line - self._first
        taken_back = entry.round < self._taken.get(index, 0)
        if isinstance(entry, Answer):
            kind = ANSWER
            tally.add_answer(entry, taken_back=taken_back)
        else:
            kind = ERROR if isinstance(entry, Failure) else MISSING
        if taken_back:
            return
        if not 0 <= index < len(self.kind):
            self._problems.add(self._chunk, entry.line, "foreign_line")
            return
        if self.kind[index] and not self._wins(entry, kind, index):
            return
        self.kind[index] = kind
        self.round[index] = entry.round
        self.journal[index] = journal
        self.rec_offset[index] = scanned.rec_offset
        self.rec_length[index] = scanned.rec_length
        self._t[index] = entry.t
        if isinstance(entry, Failure):
            self._failure[index] = entry.failure

    def _wins(self, entry: Terminal, kind: int, index: int) -> bool:
        # A line that has a terminal record already meets another one. Only those of one round, and
        # answers, contradict each other: what failed in an earlier round is history.
        answered = self.kind[index] == ANSWER
        if entry.round == self.round[index] or (answered and kind == ANSWER):
            self._tally.extras += 1
            self._double[index] = _TWO_ANSWERS if answered and kind == ANSWER else _TWO_TERMINALS
            return kind == ANSWER and (not answered or entry.t < self._t[index])
        newer = entry.round > self.round[index]
        if answered:
            self._tally.extras += newer  # it ended again after it was answered
            return False
        if kind == ANSWER or newer:
            self._tally.extras += kind == ANSWER and not newer
            self._double[index] = 0  # what doubled was a failure of another round
            return True
        return False

    def failure(self, index: int) -> str:
        """The class of an error."""
        return self._failure[index]

    def double(self, index: int) -> str | None:
        """What is wrong with a line that ended twice, None with all others."""
        return _DOUBLES.get(self._double[index])
