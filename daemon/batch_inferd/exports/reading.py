"""The records of an ended task in input order: each input line with what became of it.

Read from the chunk files and the journals by the rules of the merge, a chunk at a time.
"""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from batch_inferd.journal.format import Answer
from batch_inferd.journal.names import Listing, chunk_name
from batch_inferd.lines import BOM, find_lines, read_range
from batch_inferd.merge.index import NONE, Journals, Terminals
from batch_inferd.merge.tally import Problems, Tally

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from batch_inferd.journal.scan import Scanned
    from batch_inferd.lines import Lines
    from batch_inferd.merge.chunk import MergeChunk
    from batch_inferd.merge.index import Terminal
    from batch_inferd.seams.files import Directory

LINE_MAX = 64 * 1024 * 1024  # bytes of an input line; of a longer one only these are looked at


class ExportStopped(Exception):  # noqa: N818  it was asked for
    """Nobody waits for the export any more, or the daemon ends."""


class Record(NamedTuple):
    """An input line and what became of it.

    `line` counts from 1, blank lines included. `kind` is ANSWER, ERROR, MISSING or NONE of `merge.index`;
    `rec` is its line of the outputs, empty without one. `t` is in seconds since 1970; `ms`, the
    duration of an online call, and the tokens are None where they are not known. `lease` is the journal's.
    """

    line: int
    data: bytes
    kind: int
    rec: bytes
    t: float
    ms: int | None
    tokens_in: int | None
    tokens_out: int | None
    attempts: int
    lease: str


def _no_workers(_chunk: int) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True)
class Exported:
    """A task to be exported. Its folder stays open, and no worker writes into it meanwhile.

    `chunks` gives all chunks in order, each time it is called; `workers` the worker of each lease of a
    chunk; `summary` is what the statistics say of the task as a whole; `total` counts its records.
    """

    task_id: str
    directory: Directory
    chunks: Callable[[], Iterable[MergeChunk]]
    total: int = 0
    messages_key: str = "messages"
    summary: dict[str, Any] = field(default_factory=dict)
    workers: Callable[[int], Mapping[str, str]] = _no_workers


class ChunkRecords(NamedTuple):
    """A chunk with its records."""

    row: MergeChunk
    records: Iterator[Record]


def read_chunks(task: Exported, tally: Tally, stop: threading.Event | None = None) -> Iterator[ChunkRecords]:
    """All chunks of a task in order; draw a chunk's records before the next chunk.

    `tally` counts what the journals hold. Raises OSError, ExportStopped.
    """
    listing = Listing(task.directory)
    for row in task.chunks():
        source = task.directory.open(chunk_name(row.chunk), os.O_RDONLY)
        journals = Journals(task.directory, listing.of_chunk(row.chunk))
        try:
            lines = find_lines(source, start_of_input=row.first_line == 1)
            outcomes = _Outcomes(row.chunk, row.first_line, len(lines), tally, Problems())
            outcomes.read(journals)
            yield ChunkRecords(row, _records(row, source, lines, outcomes, journals, stop))
        finally:
            journals.close()
            os.close(source)


def read_lines(task: Exported, stop: threading.Event | None = None) -> Iterator[tuple[int, bytes]]:
    """Only the input's lines with their numbers, without the blank ones. Raises OSError, ExportStopped."""
    for row in task.chunks():
        source = task.directory.open(chunk_name(row.chunk), os.O_RDONLY)
        try:
            lines = find_lines(source, start_of_input=row.first_line == 1)
            for index in _filled(lines, stop):
                yield row.first_line + index, _line(source, lines, row.first_line, index)
        finally:
            os.close(source)


class _Outcomes(Terminals):
    """`Terminals` that also keep how long a call took, its tokens and its attempts: -1 is not known."""

    def __init__(self, chunk: int, first_line: int, lines: int, tally: Tally, problems: Problems) -> None:
        super().__init__(chunk, first_line, lines, tally, problems)
        nothing = b"\xff" * (8 * lines)
        self.ms, self.tokens_in, self.tokens_out, self.attempts = (array("q", nothing) for _ in range(4))

    def time(self, index: int) -> float:
        """When the record ended."""
        return self._t[index]

    def _take(self, entry: Terminal, scanned: Scanned, journal: int) -> None:
        super()._take(entry, scanned, journal)
        index = entry.line - self._first
        if not 0 <= index < len(self.kind):
            return
        place = (self.journal[index], self.rec_offset[index], self._t[index])
        if place != (journal, scanned.rec_offset, entry.t):
            return  # another one counts
        self.attempts[index] = entry.attempt
        if isinstance(entry, Answer):
            self.ms[index] = entry.ms if entry.path == "online" else -1  # a batch's age says nothing
            self.tokens_in[index] = -1 if entry.tokens_in is None else entry.tokens_in
            self.tokens_out[index] = -1 if entry.tokens_out is None else entry.tokens_out


def _records(
    row: MergeChunk,
    source: int,
    lines: Lines,
    outcomes: _Outcomes,
    journals: Journals,
    stop: threading.Event | None,
) -> Iterator[Record]:
    for index in _filled(lines, stop):
        kind, length = outcomes.kind[index], outcomes.rec_length[index]
        journal = outcomes.journal[index]
        yield Record(
            line=row.first_line + index,
            data=_line(source, lines, row.first_line, index),
            kind=kind,
            rec=journals.read(journal, outcomes.rec_offset[index], length) if length else b"",
            t=outcomes.time(index),
            ms=_known(outcomes.ms[index]),
            tokens_in=_known(outcomes.tokens_in[index]),
            tokens_out=_known(outcomes.tokens_out[index]),
            attempts=max(0, outcomes.attempts[index]),
            lease="" if kind == NONE else journals.lease(journal),
        )


def _filled(lines: Lines, stop: threading.Event | None) -> Iterator[int]:
    blank = set(lines.blank)
    for index in range(len(lines)):
        if stop is not None and stop.is_set():
            raise ExportStopped
        if index not in blank:
            yield index


def _line(source: int, lines: Lines, first_line: int, index: int) -> bytes:
    data = read_range(source, lines.offset(index), min(lines.length(index), LINE_MAX))
    return data.removeprefix(BOM) if first_line + index == 1 else data


def _known(number: int) -> int | None:
    return None if number < 0 else number
