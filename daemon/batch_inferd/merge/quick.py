"""The quick way through a chunk whose one journal has an index, and that holds nothing but what it should.

The index says where everything stands. That it may be believed, and that each record has ended once, is
found out apart from it: the whole journal is verified by its checksum, its terminal records are counted
line by line, and they must be those of the input's lines. Whatever does not fit leaves the chunk to the
slow way, which says what is wrong.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from batch_inferd.journal.format import INDEX, DamagedLine
from batch_inferd.journal.index import Index, KindCounter, Kinds, decode_index
from batch_inferd.lines import BLOCK, SCAN_BLOCK, read_range
from batch_inferd.seams.files import read_into

if TYPE_CHECKING:
    from batch_inferd.lines import Lines
    from batch_inferd.seams.files import Directory

IN_MEMORY = 2 * BLOCK  # bytes: a larger journal is read piece by piece
_STEP = 128 * 1024  # bytes: what a buffer's length is a multiple of
_TAIL = 64 * 1024  # where the last line is looked for at first
_INDEX_BYTES = 2 * BLOCK  # no index is longer
_REC_BEGINS, _REC_ENDS = b"{", b","  # what a `rec` begins with, and what follows it


class Memory:
    """Where one journal after the other is read to: new memory for each costs more than the reading.

    It is about as long as the longest journal so far: chunks of a task resemble each other.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def of(self, size: int) -> bytearray:
        """At least `size` bytes, with anything in them, until it is asked again."""
        if len(self._buffer) < size:
            self._buffer = bytearray(-(-size // _STEP) * _STEP)
        return self._buffer


@dataclass(slots=True)
class Verified:
    """A journal that was found good, open at `fd`. `buffer` holds it, or None: it is read as it is needed.

    The buffer is the memory's, until the next journal is verified.
    """

    fd: int
    name: str
    index: Index
    records: int
    failures: dict[int, str]  # by line of the input: those with an error, and its class
    missing: frozenset[int]
    buffer: bytearray | None

    def recs(self) -> list[memoryview]:
        """What all records are in the outputs, in order. Only of a journal in memory without missing ones."""
        view = memoryview(self.buffer or b"")
        return [view[begin:end] for begin, end in zip(self.index.at, self.index.end, strict=True)]

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of it. Raises OSError."""
        if self.buffer is not None:
            return bytes(self.buffer[offset : offset + length])
        data = read_range(self.fd, offset, length)
        if len(data) != length:
            raise OSError(f"the journal {self.name} became shorter while it was merged")
        return data

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)


def verify(
    directory: Directory, names: list[str], first_line: int, lines: Lines, memory: Memory
) -> Verified | None:
    """The journal of a chunk with these lines, the first of which is `first_line` of the input.

    None where the chunk has to go the slow way. Raises OSError.
    """
    if len(names) != 1:
        return None
    fd = directory.open(names[0], os.O_RDONLY)
    buffer: bytearray | None = None
    found: Verified | None = None
    try:
        size = os.fstat(fd).st_size
        if size <= IN_MEMORY:
            buffer = memory.of(size)
            if read_into(fd, memoryview(buffer)[:size]) < size:
                return None
        index = _index(fd, size, buffer)
        if index is not None and _fits(fd, index, first_line, lines, buffer):
            failures = {line: failure for failure, failed in index.errors.items() for line in failed}
            records = sum(index.lines[1::2])
            found = Verified(fd, names[0], index, records, failures, frozenset(index.missing), buffer)
        return found
    finally:
        if found is None:
            os.close(fd)


def _index(fd: int, size: int, buffer: bytearray | None) -> Index | None:
    """The journal's last line, if it is an index of all before it."""
    if buffer is None:
        line = _last_line(fd, size)
    else:
        line = bytes(buffer[buffer.rfind(b"\n", 0, max(0, size - 1)) + 1 : size])
    if not line.startswith(INDEX) or not line.endswith(b"\n"):
        return None
    try:
        index = decode_index(line)
    except DamagedLine:
        return None
    return index if index.bytes == size - len(line) else None


def _last_line(fd: int, size: int) -> bytes:
    """The last line with its newline; nothing where that is longer than an index."""
    length = min(_TAIL, size)
    while True:
        data = read_range(fd, size - length, length)
        begin = data.rfind(b"\n", 0, -1) + 1
        if begin or length == size:
            return data[begin:]
        if length >= _INDEX_BYTES:
            return b""
        length = min(length * 8, size, _INDEX_BYTES)


def _fits(fd: int, index: Index, first_line: int, lines: Lines, buffer: bytearray | None) -> bool:
    failed = list(chain.from_iterable(index.errors.values()))
    records = sum(index.lines[1::2])
    others = {*failed, *index.missing}
    if len(others) != len(failed) + len(index.missing) or not _are_lines(index, first_line, lines, others):
        return False
    checksum, kinds = _look_through(fd, index.bytes, buffer)
    return (
        checksum == index.checksum
        and kinds == Kinds(records - len(others), len(failed), len(index.missing))
        and (buffer is None or _are_recs(index, buffer))
    )


def _are_lines(index: Index, first_line: int, lines: Lines, others: set[int]) -> bool:
    """Whether the index is of exactly the lines that are not blank; `others` of them were not answered."""
    if lines.blank:
        blank = {first_line + number for number in lines.blank}
        whole = range(first_line, first_line + len(lines))
        fits = index.line_numbers() == [number for number in whole if number not in blank]
    else:
        fits = index.lines == [first_line, len(lines)]
    return fits and (not others or others.issubset(index.line_numbers()))


def _look_through(fd: int, size: int, buffer: bytearray | None) -> tuple[int, Kinds]:
    """Checksum and terminal records of the journal's first `size` bytes."""
    counter = KindCounter()
    if buffer is not None:
        counter.feed(buffer, size)
        return zlib.crc32(memoryview(buffer)[:size]), counter.kinds()
    checksum = done = 0
    while done < size and (data := read_range(fd, done, min(SCAN_BLOCK, size - done))):
        checksum = zlib.crc32(data, checksum)
        counter.feed(data, len(data))
        done += len(data)
    return checksum, counter.kinds()


def _are_recs(index: Index, buffer: bytearray) -> bool:
    """Whether the index points at what may be a `rec`, all over."""
    if min(index.at, default=0) < 0 or max(chain(index.at, index.end), default=0) >= index.bytes:
        return False
    begins = bytes(map(buffer.__getitem__, index.at))  # a missing record's 0 is a brace too
    ends = bytes(map(buffer.__getitem__, index.end))
    records = len(index.at)
    return begins.count(_REC_BEGINS) == records and ends.count(_REC_ENDS) == records - len(index.missing)
