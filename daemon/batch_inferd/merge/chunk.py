"""Merging one chunk: its lines and its journals are scanned apart, then its outputs are written in order."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.journal.names import chunk_name
from batch_inferd.lines import BLOCK, Lines, find_lines, read_range
from batch_inferd.merge.index import ANSWER, ERROR, MISSING, NONE, Journals, Terminals
from batch_inferd.merge.quick import Memory, Verified, verify
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


class _Read(NamedTuple):
    """A chunk whose lines were read; `source` is its file, open."""

    row: MergeChunk
    journals: list[str]
    source: int
    lines: Lines


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
    _memory: Memory = field(default_factory=Memory)

    def merge_chunk(self, row: MergeChunk, journals: list[str]) -> tuple[Counts, int]:
        """Write the chunk's records to the outputs; returns its counts and its retries. Raises OSError."""
        source = self.directory.open(chunk_name(row.chunk), os.O_RDONLY)
        try:

            def read(count: int) -> bytes:
                data = os.read(source, count)
                self.on_input(data)
                return data

            lines = find_lines(read, start_of_input=row.first_line == 1)
            chunk = _Read(row, journals, source, lines)
            journal = self._verify(chunk)
            if journal is None:
                return self._merge_any(chunk)
            try:
                return self._write_verified(chunk, journal), journal.index.retries
            finally:
                journal.close()
        finally:
            os.close(source)

    def _verify(self, chunk: _Read) -> Verified | None:
        """The chunk's journal, where it has one that is sealed and holds nothing but what it should."""
        row, lines = chunk.row, chunk.lines
        if (len(lines), lines.size) != (row.lines, row.bytes):
            return None
        found = verify(self.directory, chunk.journals, row.first_line, lines, self._memory)
        if found is not None and not self._is_plain(row, found, len(lines.blank)):
            found.close()
            return None
        return found

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

    def _merge_any(self, chunk: _Read) -> tuple[Counts, int]:
        """The slow way: every line of every journal is read, and what is wrong is told."""
        row = chunk.row
        if (len(chunk.lines), chunk.lines.size) != (row.lines, row.bytes):
            self.problems.add(
                row.chunk,
                None,
                "chunk_file",
                lines=len(chunk.lines),
                bytes=chunk.lines.size,
                cut_lines=row.lines,
                cut_bytes=row.bytes,
            )
        journals = Journals(self.directory, chunk.journals)
        try:
            terminals = Terminals(row.chunk, row.first_line, len(chunk.lines), self.tally, self.problems)
            terminals.read(journals)
            counts = self._write(chunk, terminals, journals)
        finally:
            journals.close()
        self._compare(row, counts)
        return counts, terminals.retries

    def _write_verified(self, chunk: _Read, journal: Verified) -> Counts:
        index, first, lines = journal.index, chunk.row.first_line, chunk.lines
        failures, missing = journal.failures, journal.missing
        if journal.buffer is not None and not failures and not missing:
            self.outputs.answers.write_lines(journal.recs())
        else:
            for number, begin, end in zip(index.line_numbers(), index.at, index.end, strict=True):
                if number in missing:
                    line = number - first
                    _copy_line(self.outputs.missing, chunk.source, lines.offset(line), lines.length(line))
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

    def _write(self, chunk: _Read, terminals: Terminals, journals: Journals) -> Counts:
        counts = Counts()
        row, lines = chunk.row, chunk.lines
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
                _copy_line(self.outputs.missing, chunk.source, lines.offset(index), lines.length(index))
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
