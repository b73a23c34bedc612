"""Reading pieces of a file: mostly one after the other, then a block at a time; else just what is asked."""

from __future__ import annotations

import errno

from batch_inferd.lines import read_range

_BLOCK = 256 * 1024
_GAP = 4096  # what is skipped between two pieces of a walk through the file


class Window:
    """Reads from a descriptor, wherever it stands, and holds a block of what lies ahead."""

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self._name = name
        self._data = b""
        self._begin = self._end = 0  # of `data`
        self._next = 0  # where the last piece ended

    def read(self, offset: int, length: int) -> bytes:
        """The bytes there. Raises OSError, also where the file has become shorter."""
        end = offset + length
        ahead = 0 <= offset - self._next <= _GAP
        self._next = end
        if offset < self._begin or end > self._end:
            if not ahead or length >= _BLOCK:
                return self._checked(read_range(self._fd, offset, length), length)
            self._data = self._checked(read_range(self._fd, offset, _BLOCK), length)
            self._begin, self._end = offset, offset + len(self._data)
        at = offset - self._begin
        return self._data[at : at + length]

    def _checked(self, data: bytes, length: int) -> bytes:
        if len(data) < length:
            raise OSError(errno.EIO, "the file has become shorter", self._name)
        return data
