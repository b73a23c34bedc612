"""Cutting: exact byte slices of the input become chunk files, a few ahead of the workers.

A chunk holds at most `lines_per_chunk` records and, beyond its first line, at most 64 MiB. Nothing is
parsed here: a line is what ends with a newline byte, and blank if it has only white space.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from batch_inferd.intake.source import BLOCK
from batch_inferd.journal.names import chunk_folder, chunk_name
from batch_inferd.lines import BOM
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.seams.files import Directory, read_at, sync, write_all
from batch_inferd.store.taskdb import ChunkRow

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK_BYTES = 64 * 1024 * 1024
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
    at = start
    while len(rows) < count and not is_end(at, size, limit):
        most = min(per_chunk, limit - at.records) if limit else per_chunk
        folder = chunk_folder(at.chunk)
        if folder not in folders:
            directory.mkdir(folder)
            folders.add(folder)
        name = chunk_name(at.chunk)
        fd = directory.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            piece, chain = _copy_slice(source, fd, at, size, most, name, stop)
            sync(fd, name)
        finally:
            os.close(fd)
        row = ChunkRow(
            at.chunk, at.line, piece.lines, at.offset, piece.size, piece.records, piece.blank, chain,
            "ready" if piece.records else "done", tokens_unknown=0, **_ZEROES,
        )  # fmt: skip
        rows.append(row)
        at = after(row, at.records)
    for folder in folders:
        directory.sync(folder)
    directory.sync()
    failpoint("cut.written")
    return rows, at


def is_end(at: Position, size: int, limit: int) -> bool:
    """Whether nothing is left to cut."""
    return at.offset >= size or bool(limit and at.records >= limit)


def _copy_slice(
    source: int, target: int, at: Position, size: int, most: int, name: str, stop: Callable[[], bool]
) -> tuple[_Slice, str]:
    digest = hashlib.sha256(at.chain.encode())
    lines = records = blank = done = 0
    ended = True  # the last byte so far is a newline
    filled = False  # the line that is being read has something besides white space
    first = at.line == 1
    finished = False
    while not finished and at.offset + done < size:
        if stop():
            raise CutStopped
        block = read_at(source, min(BLOCK, size - at.offset - done), at.offset + done)
        if not block:
            raise InputShrunk
        begin = 0
        while True:
            newline = block.find(b"\n", begin)
            part = block[begin : newline if newline >= 0 else len(block)]
            if first and done + begin == 0:
                part = part.removeprefix(BOM)
            filled = filled or bool(part and not part.isspace())
            if newline < 0:
                begin = len(block)
                break
            begin = newline + 1
            lines += 1
            records += filled
            blank += not filled
            filled = False
            if records >= most or done + begin >= CHUNK_BYTES:
                finished = True
                break
        piece = block if begin == len(block) else block[:begin]
        digest.update(piece)
        write_all(target, piece, name)
        done += len(piece)
        ended = piece.endswith(b"\n")
    if not ended:
        lines += 1  # the input's last line has no newline
        records += filled
        blank += not filled
    return _Slice(done, lines, records, blank), digest.hexdigest()


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
