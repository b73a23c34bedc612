"""Closing a chunk of a cancelled task: every record that has not ended gets its terminal record."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

from batch_inferd.backends.body import custom_id_of
from batch_inferd.journal.extras import quarantine_extras
from batch_inferd.journal.format import encode_error, encode_missing
from batch_inferd.journal.names import chunk_name, journal_name
from batch_inferd.journal.reader import ChunkState, LineState, read_chunk
from batch_inferd.journal.record import error_line
from batch_inferd.journal.writer import JournalWriter
from batch_inferd.lines import read_range, scan_lines

if TYPE_CHECKING:
    from batch_inferd.store.taskdb import ChunkRow
    from batch_inferd.tasks.task import Task

_ID_BYTES = 1024 * 1024  # a longer line's custom_id is not looked for


def close_chunk(task: Task, row: ChunkRow) -> dict[str, int]:
    """Journal `missing` for records never tried, `error` for those whose tries failed; the chunk's counts.

    Blocks. No worker holds the chunk. Raises OSError.
    """
    # From round 0 on: what failed before a `-retry` that was cancelled stays as it was.
    state = read_chunk(task.directory, row.n, 0, repair=True)
    lines = _open_lines(task, row, state)
    if lines:
        name = journal_name(row.n, uuid.uuid4().hex[:12])
        writer = JournalWriter(task.directory, name, strict=False)
        try:
            for line, offset, length in lines:
                writer.append(_terminal(task, row, state, line, offset, length))
            writer.sync()
        finally:
            writer.close()
    failed = sum(1 for line, _, _ in lines if _has_failed(state.state(line)))
    return state.counts() | {
        "error": state.error + failed,
        "missing": state.missing + len(lines) - failed,
    }


def _has_failed(tried: LineState) -> bool:
    """Whether a try of it failed; one that the cancel itself broke off came to nothing either way."""
    return tried.failure not in (None, "cancelled")


def quarantine_doubles(task: Task, chunks: list[int]) -> int:
    """Set second terminal records of these chunks aside, so that the next merge can hold; how many.

    Blocks. No worker holds them. Raises OSError.
    """
    return sum(quarantine_extras(task.directory, chunk, task.round) for chunk in chunks)


def _open_lines(task: Task, row: ChunkRow, state: ChunkState) -> list[tuple[int, int, int]]:
    fd = task.directory.open(chunk_name(row.n), os.O_RDONLY)
    try:
        return [
            (row.first_line + line.index, line.offset, line.length)
            for line in scan_lines(fd, start_of_input=row.first_line == 1)
            if not line.blank and not state.is_done(row.first_line + line.index)
        ]
    finally:
        os.close(fd)


def _terminal(task: Task, row: ChunkRow, state: ChunkState, line: int, offset: int, length: int) -> bytes:
    now = task.context.clock.now()
    tried = state.state(line)
    if not _has_failed(tried):
        return encode_missing(line=line, round=task.round, attempt=tried.attempts, t=now)
    fd = task.directory.open(chunk_name(row.n), os.O_RDONLY)
    try:
        text = read_range(fd, offset, length) if length <= _ID_BYTES else b""
    finally:
        os.close(fd)
    rec = error_line(
        str(task.facts["batch_id"]),
        custom_id_of(text, line),
        code=str(tried.failure),
        message=f"{tried.message} (the task was cancelled before the next try)",
        attempts=tried.attempts,
        line=line,
        status=tried.status,
    )
    return encode_error(
        line=line, round=task.round, attempt=tried.attempts, t=now, failure=str(tried.failure), rec=rec
    )
