"""Merging one chunk: its lines and its journals are scanned apart, then its outputs are written in order.

`scan` and `verify` read, in threads ahead of `merge_chunk`, which writes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.journal.names import chunk_name
from batch_inferd.lines import BLOCK, Lines, find_lines, read_range
from batch_inferd.merge.index import ANSWER, ERROR, MISSING, NONE, Journals, Terminals
from batch_inferd.merge.quick import Buffers, Verified, verify
from batch_inferd.merge.tally import Counts, Problems, Tally

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_inferd.merge.outputs import OutputFile
    from batch_inferd.seams.files import Directory


class Sealed(NamedTuple):
    """What the database says of a chunk that is done."""

    input: int
    answered: int
    error: int
    missing: int
    blank: int


class MergeChunk(NamedTuple):
    """A chunk as the database knows it: number and first line from 1, lines, bytes, counts if it is done.

    `opened` is the round that opened it last: what failed in an earlier one has not ended. None: the task's.
    """

    chunk: int
    first_line: int
    lines: int
    bytes: int
    sealed: Sealed | None
    opened: int | None = None


@dataclass(slots=True)
class Outputs:
    """The three staged files that records go to."""

    answers: OutputFile
    errors: OutputFile
    missing: OutputFile


@dataclass(slots=True)
class Ready:
    """A chunk that was read: its lines, then its journal if that was verified. `ChunkMerger.close` it."""

    row: MergeChunk
    journals: list[str]
    source: int  # the chunk file, open
    lines: Lines
    journal: Verified | None = None


@dataclass(slots=True)
class ChunkMerger:
    """Merges chunk after chunk of one task; see `merge_chunk`."""

    directory: Directory
    round: int
    cancelled: bool  # what failed in an earlier round only has ended all the same
    outputs: Outputs
    tally: Tally
    problems: Problems
    on_input: Callable[[bytes], None]  # sees every byte of the chunk files, in order
    _buffers: Buffers = field(default_factory=Buffers)

    def scan(self, row: MergeChunk, journals: list[str]) -> Ready:
        """Read a chunk's lines, in any thread, chunk after chunk. Raises OSError."""
        source = self.directory.open(chunk_name(row.chunk), os.O_RDONLY)
        try:

            def read(count: int) -> bytes:
                data = os.read(source, count)
                self.on_input(data)
                return data

            return Ready(row, journals, source, find_lines(read, start_of_input=row.first_line == 1))
        except BaseException:
            os.close(source)
            raise

    def verify(self, ready: Ready) -> Ready:
        """Read the chunk's journal, in any thread, where it has one that is sealed. Raises OSError."""
        row, lines = ready.row, ready.lines
        if (len(lines), lines.size) != (row.lines, row.bytes):
            return ready
        try:
            found = verify(self.directory, ready.journals, row.first_line, lines, self._buffers)
        except BaseException:
            os.close(ready.source)
            raise
        if found is not None and self._is_plain(row, found, len(lines.blank)):
            ready.journal = found
        elif found is not None:
            found.close(self._buffers)
        return ready

    def _is_plain(self, row: MergeChunk, journal: Verified, blank: int) -> bool:
        """Whether all of the journal counts in this round, and is what the database says."""
        failed = len(journal.failures) + len(journal.missing)
        if failed and not self._is_of_now(row, journal.index.round):
            return False
        found = Sealed(
            journal.records,
            journal.records - failed,
            len(journal.failures),
            len(journal.missing),
            blank,
        )
        return row.sealed in (None, found)

    def _is_of_now(self, row: MergeChunk, round: int) -> bool:  # noqa: A002
        """Whether what failed in this round has ended: not if the chunk was opened again after it."""
        first = self.round if row.opened is None else row.opened
        return self.cancelled or first <= round <= self.round

    def close(self, ready: Ready) -> None:
        """Give the files and the memory of a chunk back."""
        os.close(ready.source)
        if ready.journal is not None:
            ready.journal.close(self._buffers)

    def merge_chunk(self, ready: Ready) -> tuple[Counts, int]:
        """Write the chunk's records to the outputs; returns its counts and its retries. Raises OSError."""
        if ready.journal is not None:
            return self._write_verified(ready, ready.journal), ready.journal.index.retries
        row = ready.row
        if (len(ready.lines), ready.lines.size) != (row.lines, row.bytes):
            self.problems.add(
                row.chunk,
                None,
                "chunk_file",
                lines=len(ready.lines),
                bytes=ready.lines.size,
                cut_lines=row.lines,
                cut_bytes=row.bytes,
            )
        journals = Journals(self.directory, ready.journals)
        try:
            terminals = Terminals(row.chunk, row.first_line, len(ready.lines), self.tally, self.problems)
            terminals.read(journals)
            counts = self._write(ready, terminals, journals)
        finally:
            journals.close()
        self._compare(row, counts)
        return counts, terminals.retries

    def _write_verified(self, ready: Ready, journal: Verified) -> Counts:
        index, first, lines = journal.index, ready.row.first_line, ready.lines
        failures, missing = journal.failures, journal.missing
        if journal.buffer is not None and not failures and not missing:
            self.outputs.answers.write_lines(journal.recs())
        else:
            for number, begin, end in zip(index.line_numbers(), index.at, index.end, strict=True):
                if number in missing:
                    line = number - first
                    _copy_line(self.outputs.missing, ready.source, lines.offset(line), lines.length(line))
                else:
                    out = self.outputs.errors if number in failures else self.outputs.answers
                    _copy(out, journal.read, begin, end - begin)
        self.tally.add_index(index, journal.records)
        return Counts(
            input=journal.records,
            output=journal.records - len(failures) - len(missing),
            error=len(failures),
            missing=len(missing),
            blank=len(lines.blank),
        )

    def _write(self, ready: Ready, terminals: Terminals, journals: Journals) -> Counts:
        counts = Counts()
        row, lines = ready.row, ready.lines
        blank = set(lines.blank)
        for index in range(len(lines)):
            kind = terminals.kind[index]
            if index in blank:
                counts.blank += 1
                if kind != NONE:
                    self.problems.add(row.chunk, row.first_line + index, "terminal_of_blank_line")
                continue
            counts.input += 1
            if kind not in (NONE, ANSWER) and not self._is_of_now(row, terminals.round[index]):
                kind = NONE  # it failed in an earlier round, and did not end in this one
            if what := terminals.double(index):
                self.problems.add(row.chunk, row.first_line + index, what)
            if kind == ANSWER:
                counts.output += 1
                self._copy_rec(self.outputs.answers, index, terminals, journals)
            elif kind == ERROR:
                counts.error += 1
                self.tally.errors[terminals.failure(index)] += 1
                self._copy_rec(self.outputs.errors, index, terminals, journals)
            elif kind == MISSING:
                counts.missing += 1
                _copy_line(self.outputs.missing, ready.source, lines.offset(index), lines.length(index))
            else:
                counts.pending += 1
                self.problems.add(row.chunk, row.first_line + index, "no_terminal")
        return counts

    @staticmethod
    def _copy_rec(out: OutputFile, index: int, terminals: Terminals, journals: Journals) -> None:
        journal = terminals.journal[index]
        _copy(
            out,
            lambda offset, length: journals.read(journal, offset, length),
            terminals.rec_offset[index],
            terminals.rec_length[index],
        )

    def _compare(self, row: MergeChunk, counts: Counts) -> None:
        if row.sealed is None:
            return
        found = Sealed(counts.input, counts.output, counts.error, counts.missing, counts.blank)
        if found != row.sealed:
            self.problems.add(
                row.chunk, None, "sealed_counts", found=found._asdict(), sealed=row.sealed._asdict()
            )


def _copy_line(out: OutputFile, source: int, offset: int, length: int) -> None:
    _copy(out, lambda begin, count: read_range(source, begin, count), offset, length)


def _copy(out: OutputFile, read: Callable[[int, int], bytes], offset: int, length: int) -> None:
    """Write a line of an output, a block at a time: it may be longer than the memory."""
    while length > BLOCK:
        out.write(read(offset, BLOCK))
        offset += BLOCK
        length -= BLOCK
    out.write_line(read(offset, length))
