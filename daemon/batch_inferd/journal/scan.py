"""Walking through a journal by offsets, in bounded memory however long its lines are."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.journal.format import INDEX, TAIL, DamagedLine, Entry, decode_head, is_sealed
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
    """All lines of the journal, from its beginning, but for an index that is not damaged. Raises OSError."""
    position = begin = 0  # what is read next; where `data` begins
    data = b""
    while more := read_range(fd, position, block):
        position += len(more)
        data = data + more if data else more
        at = 0
        view = memoryview(data)
        while (end := data.find(b"\n", at)) >= 0:
            scanned = _in_memory(data, view, at, end, begin)
            if scanned is not None:
                yield scanned
            at = end + 1
        data = data[at:]
        begin += at
        if len(data) >= block:
            begin, scanned = _beyond_memory(fd, begin, data, block)
            position = begin
            data = b""
            if scanned is not None:
                yield scanned
                if scanned.torn:
                    return
    if data:
        yield Scanned(begin, len(data), None, 0, 0, "torn", torn=True)


def _in_memory(data: bytes, view: memoryview, at: int, end: int, base: int) -> Scanned | None:
    """The line data[at:end]; `base` is the offset of `data`. None: an index."""
    seal_at = max(at, end - TAIL)
    if not is_sealed(zlib.crc32(view[at:seal_at]), data[seal_at:end]):
        return Scanned(base + at, end - at, None, 0, 0, "checksum", torn=False)
    return _judge(base + at, end - at, data, at, seal_at)


def _beyond_memory(fd: int, begin: int, data: bytes, block: int) -> tuple[int, Scanned | None]:
    """The line from `begin` on, of which `data` is there, and where the next one begins. None: an index."""
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
            after = begin + length + 1
            if not is_sealed(crc, held):
                return after, Scanned(begin, length, None, 0, 0, "checksum", torn=False)
            return after, _judge(begin, length, head, 0, min(len(head), length - TAIL))
        data = read_range(fd, position, block)
        position += len(data)
    return begin + length, Scanned(begin, length, None, 0, 0, "torn", torn=True)


def _judge(offset: int, length: int, data: bytes, at: int, seal_at: int) -> Scanned | None:
    """A line whose checksum fits: data[at:seal_at] is it without its seal, or enough of its head."""
    try:
        entry, rec_at = decode_head(data, at, seal_at)
    except DamagedLine as error:
        if data.startswith(INDEX, at):
            return None
        return Scanned(offset, length, None, 0, 0, str(error), torn=False)
    if not rec_at:
        return Scanned(offset, length, entry, 0, 0, None, torn=False)
    rec_at -= at
    return Scanned(offset, length, entry, offset + rec_at, length - TAIL - rec_at, None, torn=False)
