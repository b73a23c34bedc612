"""Merging one chunk: its lines and its journals are scanned apart, then its outputs are written in order."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.journal.names import chunk_name
from batch_inferd.lines import BLOCK, read_range, scan_lines
from batch_inferd.merge.index import ANSWER, ERROR, MISSING, NONE, Journals, Lines, Terminals
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
class ChunkMerger:
    """Merges chunk after chunk of one task; see `merge_chunk`."""

    directory: Directory
    round: int
    cancelled: bool  # what failed in an earlier round only has ended all the same
    outputs: Outputs
    tally: Tally
    problems: Problems
    on_input: Callable[[bytes], None]  # sees every byte of the chunk files, in order

    def merge_chunk(self, row: MergeChunk, journal_names: list[str]) -> tuple[Counts, int]:
        """Write the chunk's records to the outputs; returns its counts and its retries. Raises OSError."""
        source = self.directory.open(chunk_name(row.chunk), os.O_RDONLY)
        journals = Journals(self.directory, journal_names)
        try:
            lines = self._scan(source, row)
            terminals = Terminals(row.chunk, row.first_line, len(lines), self.tally, self.problems)
            terminals.read(journals)
            counts = self._write(row, lines, terminals, source, journals)
        finally:
            journals.close()
            os.close(source)
        self._compare(row, counts)
        return counts, terminals.retries

    def _scan(self, source: int, row: MergeChunk) -> Lines:
        size = 0

        def read(count: int) -> bytes:
            nonlocal size
            data = os.read(source, count)
            size += len(data)
            self.on_input(data)
            return data

        lines = Lines()
        for line in scan_lines(read, start_of_input=row.first_line == 1):
            lines.add(line)
        if (len(lines), size) != (row.lines, row.bytes):
            self.problems.add(
                row.chunk,
                None,
                "chunk_file",
                lines=len(lines),
                bytes=size,
                cut_lines=row.lines,
                cut_bytes=row.bytes,
            )
        return lines

    def _write(
        self, row: MergeChunk, lines: Lines, terminals: Terminals, source: int, journals: Journals
    ) -> Counts:
        counts = Counts()
        first_round = self.round if row.opened is None else row.opened
        for index in range(len(lines)):
            kind = terminals.kind[index]
            if lines.blank[index]:
                counts.blank += 1
                if kind != NONE:
                    self.problems.add(row.chunk, row.first_line + index, "terminal_of_blank_line")
                continue
            counts.input += 1
            of_now = self.cancelled or first_round <= terminals.round[index] <= self.round
            if kind not in (NONE, ANSWER) and not of_now:
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
                _copy_line(self.outputs.missing, source, lines.offset[index], lines.length[index])
            else:
                counts.pending += 1
                self.problems.add(row.chunk, row.first_line + index, "no_terminal")
        return counts

    @staticmethod
    def _copy_rec(out: OutputFile, index: int, terminals: Terminals, journals: Journals) -> None:
        journal, offset, length = (
            terminals.journal[index],
            terminals.rec_offset[index],
            terminals.rec_length[index],
        )
        while length > BLOCK:
            out.write(journals.read(journal, offset, BLOCK))
            offset += BLOCK
            length -= BLOCK
        out.write_line(journals.read(journal, offset, length))

    def _compare(self, row: MergeChunk, counts: Counts) -> None:
        if row.sealed is None:
            return
        found = Sealed(counts.input, counts.output, counts.error, counts.missing, counts.blank)
        if found != row.sealed:
            self.problems.add(
                row.chunk, None, "sealed_counts", found=found._asdict(), sealed=row.sealed._asdict()
            )


def _copy_line(out: OutputFile, source: int, offset: int, length: int) -> None:
    while length > BLOCK:
        out.write(read_range(source, offset, BLOCK))
        offset += BLOCK
        length -= BLOCK
    out.write_line(read_range(source, offset, length))
