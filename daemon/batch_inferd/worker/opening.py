"""Opening a leased chunk: the folder, the lines, what earlier journals say, and a journal of our own.

Blocking: runs in a thread.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from batch_inferd.journal.names import journal_name
from batch_inferd.journal.reader import ChunkState, read_chunk
from batch_inferd.journal.writer import JournalWriter
from batch_inferd.lines import Lines, find_lines
from batch_inferd.seams.files import Directory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch_inferd.worker.record import Lease


class FolderGone(Exception):  # noqa: N818  it is a state of the world
    """The task's folder was removed or replaced: the lease is void, and nothing is written."""


@dataclass(slots=True)
class Opened:
    """All that a lease needs. `todo`: the indexes of lines without a terminal record; `blank` is a count."""

    directory: Directory
    source: int  # descriptor of the chunk file
    writer: JournalWriter
    lines: Lines
    todo: Sequence[int]
    blank: int
    state: ChunkState


def open_lease(lease: Lease) -> Opened:
    """Open everything. Raises FolderGone; OSError, also where the chunk file is not what was leased."""
    directory = open_folder(lease.task_dir, lease.task_dir_id)
    try:
        source = directory.open(lease.chunk_file, os.O_RDONLY)
        try:
            state = (
                ChunkState(lease.round)
                if lease.fresh
                else read_chunk(directory, lease.chunk, lease.round, repair=True)
            )
            lines, todo = _scan(lease, source, state)
            writer = JournalWriter(directory, journal_name(lease.chunk, lease.lease))
        except BaseException:
            os.close(source)
            raise
    except FileNotFoundError as error:
        directory_is_there = directory.still_there()
        directory.close()
        if directory_is_there:
            raise
        raise FolderGone from error
    except BaseException:
        directory.close()
        raise
    return Opened(directory, source, writer, lines, todo, len(lines.blank), state)


def open_folder(path: str, identity: tuple[int, int]) -> Directory:
    """The task's folder, if it is the very one that was meant. Raises FolderGone, OSError."""
    try:
        directory = Directory(Path(path))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FolderGone from error
    except OSError as error:
        if error.errno == errno.ELOOP:  # a symbolic link stands where the folder was
            raise FolderGone from error
        raise
    if directory.identity != tuple(identity):
        directory.close()
        raise FolderGone
    return directory


def _scan(lease: Lease, source: int, state: ChunkState) -> tuple[Lines, Sequence[int]]:
    lines = find_lines(source, start_of_input=lease.first_line == 1)
    if len(lines) != lease.lines:
        raise OSError(
            errno.EIO,
            f"the chunk file has {len(lines)} lines, it was cut with {lease.lines}",
            lease.chunk_file,
        )
    if not lines.blank and not state.terminals:
        return lines, range(len(lines))
    blank, first = set(lines.blank), lease.first_line
    return lines, [i for i in range(len(lines)) if i not in blank and not state.is_done(first + i)]
