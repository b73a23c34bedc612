"""Merging a task: every chunk in input order, as a stream, into a stage; the identity is proved on the way.

`input = output + error + missing` is never computed by subtraction: the input is counted in the chunk
files, the outcomes in the journals, and each record must have exactly one terminal record that counts.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from batch_inferd.journal.names import Listing
from batch_inferd.merge.chunk import ChunkMerger, MergeChunk, Outputs
from batch_inferd.merge.outputs import FileFacts, OutputFile
from batch_inferd.merge.publish import (
    MISSING,
    OUTPUT,
    REPORT,
    close_stage,
    error_file,
    new_stage,
)
from batch_inferd.merge.report import ChunkLines, Header, write_report
from batch_inferd.merge.tally import Counts, Problems, Tally

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable

    from batch_inferd.money.prices import Price
    from batch_inferd.seams.files import Directory


class MergeStopped(Exception):  # noqa: N818  it was asked for
    """The stop flag was set."""


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What was staged. `files` is what to commit and then to give to `publish`: name -> size and digest.

    When `identity` is false the task is not done; `problems` holds the first hundred of
    `problem_count` reasons, each {"chunk", "line" (of the input, null: the whole chunk), "what", …}, and
    `problem_chunks` the numbers of all chunks with problems, in order, at most 10,000.
    """

    generation: int
    identity: bool
    problems: list[dict[str, Any]]
    problem_count: int
    problem_chunks: list[int]
    counts: Counts
    tally: Tally
    input: FileFacts
    files: dict[str, FileFacts]


class End(NamedTuple):
    """What is known at the end of a task.

    `input_bytes` is the pinned size of the input, all of which the chunks must hold; None where test_lines
    or a cancel left some of it unread.
    """

    header: Header
    input_bytes: int | None = None


def merge_task(
    directory: Directory,
    merged: Directory,
    chunks: Callable[[Listing], Iterable[MergeChunk]],
    *,
    generation: int,
    round: int,  # noqa: A002  as the report names it
    end: Callable[[], End],
    cancelled: bool = False,
    price: Price | None = None,
    progress: Callable[[int], None] | None = None,
    stop: threading.Event | None = None,
) -> MergeResult:
    """Stage generation G of a task's outputs. Blocks; memory does not grow with the task.

    Args:
        directory: chunks/<task-id>/.
        merged: merged/<task-id>/.
        chunks: gives all chunks in order of their number: no worker has a chunk any more when it is drawn.
            What it is given knows the journals; it is told to `forget` them where some may have come since
            the chunk before was drawn.
        generation: grows with every publication of the task.
        round: 0, then 1 with the first `-retry`; what failed in earlier rounds only has not ended.
        end: called when all chunks were merged: what the report says beside what is counted here.
        cancelled: what failed in an earlier round, and did not end in this one, counts as it was left there.
        price: of the chunks' costs in the report.
        progress: called with the number of chunks done, after each.
        stop: looked at before each chunk.

    Raises OSError, MergeStopped. Then nothing was published, and the stage is removed as far as possible.
    """
    with new_stage(merged, generation) as stage, ThreadPoolExecutor(1, "merge-write") as thread:
        names = (OUTPUT, error_file(round), MISSING)
        tally, problems = Tally(), Problems()
        source = _Input()
        opened: list[OutputFile | ChunkLines] = []
        try:
            outputs = []
            for name in names:
                outputs.append(OutputFile(merged, f"{stage}/{name}", thread))
                opened.append(outputs[-1])
            listing = ChunkLines(merged, stage, price)
            opened.append(listing)
            merger = ChunkMerger(directory, round, cancelled, Outputs(*outputs), tally, problems, source.add)
            _merge_chunks(merger, chunks, listing, progress, stop)
            header, input_bytes = end()
            if input_bytes is not None and source.bytes != input_bytes:
                problems.add(None, None, "input_bytes", found=source.bytes, pinned=input_bytes)
            files = {name: out.finish() for name, out in zip(names, outputs, strict=True)}
            files[REPORT] = write_report(
                merged, stage, header=header, round=round, generation=generation, tally=tally,
                problems=problems, digests={"input": source.facts(), **files}, chunks=listing,
            )  # fmt: skip
            close_stage(merged, generation)
        finally:
            for file in opened:
                file.abandon()
    return MergeResult(
        generation,
        not problems.count,
        problems.first,
        problems.count,
        sorted(problems.chunks),
        tally.counts,
        tally,
        source.facts(),
        files,
    )


class _Input:
    """Size and digest of all chunk files in order: of the input itself, as far as it was read."""

    def __init__(self) -> None:
        self.bytes = 0
        self._digest = hashlib.sha256()

    def add(self, data: bytes) -> None:
        self.bytes += len(data)
        self._digest.update(data)

    def facts(self) -> FileFacts:
        return {"bytes": self.bytes, "sha256": self._digest.hexdigest()}


def _merge_chunks(
    merger: ChunkMerger,
    chunks: Callable[[Listing], Iterable[MergeChunk]],
    listing: ChunkLines,
    progress: Callable[[int], None] | None,
    stop: threading.Event | None,
) -> None:
    line = 1
    journals = Listing(merger.directory)
    for number, row in enumerate(chunks(journals), start=1):
        if stop is not None and stop.is_set():
            raise MergeStopped
        if (row.chunk, row.first_line) != (number, line):
            merger.problems.add(
                row.chunk, row.first_line, "chunk_order", expected_chunk=number, expected_line=line
            )
        before = merger.tally.used()
        counts, retries = merger.merge_chunk(row, journals.of_chunk(row.chunk))
        merger.tally.counts.add(counts)
        listing.add(row, counts, retries, merger.tally.used() - before)
        line = row.first_line + row.lines
        if progress is not None:
            progress(number)
