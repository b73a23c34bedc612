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
from batch_inferd.lines import Line, scan_lines
from batch_inferd.seams.files import Directory

if TYPE_CHECKING:
    from batch_inferd.worker.record import Lease


class FolderGone(Exception):  # noqa: N818  it is a state of the world
    """The task's folder was removed or replaced: the lease is void, and nothing is written."""


@dataclass(slots=True)
class Opened:
    """All that a lease needs. `lines` are those without a terminal record, `blank` is a count."""

    directory: Directory
    source: int  # descriptor of the chunk file
    writer: JournalWriter
    lines: list[Line]
    blank: int
    state: ChunkState


def open_lease(lease: Lease) -> Opened:
    """Open everything. Raises FolderGone; OSError, also where the chunk file is not what was leased."""
    directory = open_folder(lease.task_dir, lease.task_dir_id)
    try:
        source = directory.open(lease.chunk_file, os.O_RDONLY)
        try:
            state = read_chunk(directory, lease.chunk, lease.round, repair=True)
            lines, blank = _scan(lease, source, state)
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
    return Opened(directory, source, writer, lines, blank, state)


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


def _scan(lease: Lease, source: int, state: ChunkState) -> tuple[list[Line], int]:
    lines: list[Line] = []
    blank = total = 0
    for line in scan_lines(source, start_of_input=lease.first_line == 1):
        total += 1
        if line.blank:
            blank += 1
        elif not state.is_done(lease.first_line + line.index):
            lines.append(line)
    if total != lease.lines:
        raise OSError(
            errno.EIO, f"the chunk file has {total} lines, it was cut with {lease.lines}", lease.chunk_file
        )
    return lines, blank
