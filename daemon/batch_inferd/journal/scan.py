"""Walking through a journal by offsets, in bounded memory however long its lines are."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.journal.format import TAIL, DamagedLine, Entry, decode_head, is_sealed
from batch_inferd.lines import BLOCK, read_range

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = 64 * 1024  # of a line longer than a block: more than what can stand before its `rec`


class Scanned(NamedTuple):
    """A line of a journal. `entry` is None where `fault` says what is wrong with it.

    Offsets are in bytes from the journal's beginning; `length` is without the newline. `rec` of the
    entry is not filled: its bytes stand at `rec_offset` (0, 0 where the entry has none).
    """

    offset: int
    length: int
    entry: Entry | None
    rec_offset: int
    rec_length: int
    fault: str | None
    torn: bool  # the last line, cut before its newline: not damage, but a write that never finished


def scan_journal(fd: int, block: int = BLOCK) -> Iterator[Scanned]:
    """All lines of the journal, from its beginning. Raises OSError."""
    position = begin = 0  # what is read next; where `data` begins
    data = b""
    while more := read_range(fd, position, block):
        position += len(more)
        data = data + more if data else more
        at = 0
        while (end := data.find(b"\n", at)) >= 0:
            yield _in_memory(data[at:end], begin + at)
            at = end + 1
        data = data[at:]
        begin += at
        if len(data) >= block:
            scanned = _beyond_memory(fd, begin, data, block)
            yield scanned
            begin = position = begin + scanned.length + 1
            data = b""
            if scanned.torn:
                return
    if data:
        yield Scanned(begin, len(data), None, 0, 0, "torn", torn=True)


def _in_memory(line: bytes, offset: int) -> Scanned:
    sealed = line[:-TAIL]
    return _judge(offset, len(line), sealed, zlib.crc32(sealed), line[-TAIL:])


def _beyond_memory(fd: int, begin: int, data: bytes, block: int) -> Scanned:
    head = data[:_HEAD]
    crc = length = 0
    held = b""  # may be the seal: not in the checksum until more has come
    position = begin + len(data)
    while data:
        end = data.find(b"\n")
        part = data if end < 0 else data[:end]
        length += len(part)
        held += part
        keep = max(0, len(held) - TAIL)
        crc = zlib.crc32(memoryview(held)[:keep], crc)
        held = held[keep:]
        if end >= 0:
            return _judge(begin, length, head[: max(0, length - TAIL)], crc, held)
        data = read_range(fd, position, block)
        position += len(data)
    return Scanned(begin, length, None, 0, 0, "torn", torn=True)


def _judge(offset: int, length: int, head: bytes, crc: int, tail: bytes) -> Scanned:
    if not is_sealed(crc, tail):
        return Scanned(offset, length, None, 0, 0, "checksum", torn=False)
    try:
        entry, rec_at = decode_head(head)
    except DamagedLine as error:
        return Scanned(offset, length, None, 0, 0, str(error), torn=False)
    if not rec_at:
        return Scanned(offset, length, entry, 0, 0, None, torn=False)
    return Scanned(offset, length, entry, offset + rec_at, length - TAIL - rec_at, None, torn=False)
