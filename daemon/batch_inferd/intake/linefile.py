"""A file that grows by whole lines, and can be gone on with after any crash."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.lines import BLOCK
from batch_inferd.seams.files import read_at, sync, write_all

if TYPE_CHECKING:
    from batch_inferd.seams.files import Directory


class Extent(NamedTuple):
    """Whole lines of a file: how many, where the last one begins, and where they end (bytes)."""

    lines: int
    last: int
    end: int


def survey(fd: int) -> Extent:
    """Read a file to its end and say which part of it is whole lines. Raises OSError."""
    lines = last = end = at = 0
    while block := read_at(fd, BLOCK, at):
        found = block.count(b"\n")
        if found:
            newline = block.rfind(b"\n")
            before = block.rfind(b"\n", 0, newline)
            last = at + before + 1 if before >= 0 else end
            end = at + newline + 1
            lines += found
        at += len(block)
    return Extent(lines, last, end)


class LineFile:
    """An open file of lines. What a crash left of a torn last line is cut off when it is opened.

    After an OSError it is of no use any more: what was written is unknown. Close it and open it again.
    """

    def __init__(self, directory: Directory, name: str) -> None:
        """Open `name`, or make it (0600). Raises OSError."""
        self._name = name
        self._fd = directory.open(name, os.O_RDWR | os.O_CREAT)
        try:
            self._extent = survey(self._fd)
            if os.fstat(self._fd).st_size != self._extent.end:
                os.ftruncate(self._fd, self._extent.end)
            os.lseek(self._fd, self._extent.end, os.SEEK_SET)
        except BaseException:
            os.close(self._fd)
            raise

    @property
    def lines(self) -> int:
        """How many there are."""
        return self._extent.lines

    @property
    def size(self) -> int:
        """Their bytes."""
        return self._extent.end

    @property
    def first(self) -> bytes:
        """The first line without its newline, as far as it stands in the first block. Raises OSError."""
        return read_at(self._fd, BLOCK, 0).partition(b"\n")[0]

    @property
    def last(self) -> bytes | None:
        """The last line without its newline, read from the file; None when there is none. Raises OSError."""
        found = self._extent
        if not found.lines:
            return None
        data = bytearray()
        while len(data) < found.end - found.last:
            data += read_at(self._fd, found.end - found.last - len(data), found.last + len(data))
        return bytes(data[:-1])

    def append(self, *lines: bytes) -> None:
        """Write whole lines, given without their newlines, in one go. Raises OSError."""
        data = b"".join((*(part for line in lines for part in (line, b"\n")),))
        write_all(self._fd, data, self._name)
        found = self._extent
        end = found.end + len(data)
        self._extent = Extent(found.lines + len(lines), end - len(lines[-1]) - 1, end)

    def cut(self, lines: int) -> None:
        """Keep the first `lines` lines only. Raises OSError."""
        at = offset = 0
        left = lines
        while left and (block := read_at(self._fd, BLOCK, at)):
            here = 0
            while left and (newline := block.find(b"\n", here)) >= 0:
                here = newline + 1
                offset = at + here
                left -= 1
            at += len(block)
        os.ftruncate(self._fd, offset)
        os.lseek(self._fd, offset, os.SEEK_SET)
        self._extent = survey(self._fd)

    def sync(self) -> None:
        """Make what was written durable. Raises OSError."""
        sync(self._fd, self._name)

    def stat(self) -> os.stat_result:
        """The file's own facts."""
        return os.fstat(self._fd)

    def close(self) -> None:
        """Close it; it is not synced for that."""
        os.close(self._fd)
