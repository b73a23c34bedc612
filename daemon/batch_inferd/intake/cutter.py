"""Cutting: exact byte slices of the input become chunk files, a few ahead of the workers.

A chunk holds at most `lines_per_chunk` records and, beyond its first line, at most 64 MiB. Nothing is
parsed here: a line is what ends with a newline byte, and blank if it has only white space.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, NamedTuple

from batch_inferd.intake.aside import Aside
from batch_inferd.intake.source import BLOCK
from batch_inferd.journal.names import chunk_folder, chunk_name
from batch_inferd.lines import BlankFinder, line_ends
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.seams.files import Directory, read_at, write_all
from batch_inferd.store.taskdb import ChunkRow

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

CHUNK_BYTES = 64 * 1024 * 1024
CHUNK_BLANKS = 100_000  # lines: whoever reads a chunk holds their numbers in memory
_ZEROES: dict[str, Any] = {
    "answered": 0,
    "error": 0,
    "missing": 0,
    "retries": 0,
    "tokens_in": 0,
    "tokens_out": 0,
}


class CutStopped(Exception):  # noqa: N818  it was asked for
    """The stop flag was set: what was cut or compared so far does not count."""


class InputShrunk(Exception):  # noqa: N818  said of the input
    """The input has become shorter than its pinned length."""


class Position(NamedTuple):
    """Where the next chunk begins: byte offset, 1-based line, chunk number, records so far, hash chain."""

    offset: int
    line: int
    chunk: int
    records: int
    chain: str


START = Position(0, 1, 1, 0, "")


class _Slice(NamedTuple):
    size: int
    lines: int
    records: int
    blank: int


def after(row: ChunkRow, records_before: int) -> Position:
    """The position behind a chunk."""
    return Position(
        row.offset + row.bytes, row.first_line + row.lines, row.n + 1, records_before + row.records, row.chain
    )


def cut(
    directory: Directory,
    source: int,
    size: int,
    start: Position,
    *,
    per_chunk: int,
    limit: int,
    count: int,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[list[ChunkRow], Position]:
    """Cut up to `count` chunks from descriptor `source`, whose pinned length is `size` bytes.

    `limit` is the number of records of the whole task (0: all); `stop` is asked before each block.
    Chunk files and their folders are durable when this returns. Raises OSError, InputShrunk, CutStopped:
    then no chunk counts, and cutting again from `start` writes their files anew.
    """
    rows: list[ChunkRow] = []
    folders: set[str] = set()
    pieces: list[tuple[Position, _Slice, Future[str]]] = []
    at = start
    reader = _Reader(source, size, start.offset, stop)
    with Aside(start.chain) as aside:
        while len(pieces) < count and not is_end(at, size, limit):
            most = min(per_chunk, limit - at.records) if limit else per_chunk
            folder = chunk_folder(at.chunk)
            if folder not in folders:
                directory.mkdir(folder)
                folders.add(folder)
            name = chunk_name(at.chunk)
            fd = directory.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                piece = _copy_slice(reader, fd, name, aside, most, start_of_input=at.line == 1)
            except BaseException:
                os.close(fd)
                raise
            aside.close(fd, name)
            pieces.append((at, piece, aside.end_chunk()))
            at = Position(
                at.offset + piece.size, at.line + piece.lines, at.chunk + 1, at.records + piece.records, ""
            )
        aside.finish()
        for begin, piece, chain in pieces:
            rows.append(
                ChunkRow(
                    begin.chunk, begin.line, piece.lines, begin.offset, piece.size, piece.records,
                    piece.blank, chain.result(), "ready" if piece.records else "done", tokens_unknown=0,
                    **_ZEROES,
                )
            )  # fmt: skip
    for folder in folders:
        directory.sync(folder)
    directory.sync()
    failpoint("cut.written")
    return rows, at._replace(chain=rows[-1].chain if rows else start.chain)


def is_end(at: Position, size: int, limit: int) -> bool:
    """Whether nothing is left to cut."""
    return at.offset >= size or bool(limit and at.records >= limit)


class _Reader:
    """Reads the input a block at a time; what a chunk leaves of a block is there for the next one."""

    def __init__(self, source: int, size: int, offset: int, stop: Callable[[], bool]) -> None:
        self._source = source
        self._size = size  # of the input
        self._offset = offset  # of what is read next
        self._stop = stop
        self.block = b""
        self.at = 0  # where the unused part of the block begins

    def fill(self) -> bool:
        """Have unused bytes in the block; False at the input's end.

        Raises OSError, InputShrunk, CutStopped.
        """
        if self.at < len(self.block):
            return True
        if self._offset >= self._size:
            return False
        if self._stop():
            raise CutStopped
        self.block = read_at(self._source, min(BLOCK, self._size - self._offset), self._offset)
        if not self.block:
            raise InputShrunk
        self._offset += len(self.block)
        self.at = 0
        return True

    def take(self, end: int) -> memoryview:
        """The unused part up to `end` in the block."""
        piece = memoryview(self.block)[self.at : end]
        self.at = end
        return piece


def _copy_slice(
    reader: _Reader, target: int, name: str, aside: Aside, most: int, *, start_of_input: bool
) -> _Slice:
    """Copy the next chunk, of at most `most` records."""
    finder = BlankFinder(start_of_input)
    lines = blank = done = 0
    open_line = False  # the last byte so far is no newline
    full = False
    while not full and reader.fill():
        block, begin = reader.block, reader.at
        at = begin
        while not full:
            ends = line_ends(block, at, most - (lines - blank))
            if not ends:
                break
            room = CHUNK_BYTES - done + begin  # the line that passes this byte of the block is the last
            if ends[-1] >= room:
                del ends[bisect_left(ends, room) + 1 :]
                full = True
            blank += len(finder.blanks(block, ends, at))
            lines += len(ends)
            at = ends[-1]
            full = full or lines - blank >= most or blank >= CHUNK_BLANKS
        if not full:
            finder.rest(block, at)
            open_line = at < len(block)
        piece = reader.take(at if full else len(block))
        aside.hash(piece)
        write_all(target, piece, name)
        done += len(piece)
        open_line = open_line and not full
    if open_line:
        lines += 1  # the input's last line has no newline
        blank += not finder.filled
    return _Slice(done, lines, lines - blank, blank)


def verify(
    directory: Directory, source: int, rows: list[ChunkRow], *, stop: Callable[[], bool] = lambda: False
) -> int | None:
    """Compare what was cut with the input as it is now; the first chunk that differs, or None.

    `stop` is asked before each block. Raises OSError, CutStopped.
    """
    chain = ""
    for row in rows:
        digest = hashlib.sha256(chain.encode())
        left, offset = row.bytes, row.offset
        while left:
            if stop():
                raise CutStopped
            block = read_at(source, min(BLOCK, left), offset)
            if not block:
                return row.n
            digest.update(block)
            left -= len(block)
            offset += len(block)
        chain = digest.hexdigest()
        if chain != row.chain or not _has_size(directory, row):
            return row.n
    return None


def _has_size(directory: Directory, row: ChunkRow) -> bool:
    try:
        fd = directory.open(chunk_name(row.n), os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return os.fstat(fd).st_size == row.bytes
    finally:
        os.close(fd)
