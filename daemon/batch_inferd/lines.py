"""Lines of a file by offset: found in bounded memory however long they are.

Only a newline byte ends a line, as everywhere in batch_infer: a lone CR or U+2028 is content.
"""

from __future__ import annotations

import os
from array import array
from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.seams.files import read_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCK = 1024 * 1024
SCAN_BLOCK = (
    256 * 1024
)  # fits the cache; and of a file of newlines only, an offset is held for each byte of it
BOM = b"\xef\xbb\xbf"
_SPACE = 0x20  # every byte of white space is at or below it


class Line(NamedTuple):
    """A line's 0-based index, byte offset, length without its newline, and whether it is blank."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks of a line
    offset: int
    length: int
    blank: bool


def line_ends(data: bytes, begin: int = 0, most: int = -1) -> list[int]:
    """The offsets behind the newlines in `data` from `begin` on; at most `most` of them, if not negative."""
    ends: list[int] = []
    append, find = ends.append, data.find
    at = begin
    if most < 0:
        while at := find(b"\n", at) + 1:
            append(at)
    else:
        while len(ends) < most and (at := find(b"\n", at) + 1):
            append(at)
    return ends


class BlankFinder:
    """Finds the blank lines of a stream of blocks. A line may go through many of them."""

    def __init__(self, start_of_input: bool = False) -> None:
        """`start_of_input`: the first line of the stream is line 1 of the input; a BOM does not fill it."""
        self._look = start_of_input
        self.filled = False  # the line that is being read has something besides white space

    def blanks(self, data: bytes, ends: list[int], begin: int = 0) -> list[int]:
        """Which of the lines that end at `ends`, the first of which goes on at `begin`, are blank: indexes.

        What stands behind the last end is left to `rest`.
        """
        found: list[int] = []
        if not ends:
            return found
        if not self.filled and _is_space(data, self._skip(data, begin), ends[0]):
            found.append(0)
        self.filled = False
        # A line that begins with a byte of content is not blank: mostly that is all of them.
        if len(ends) > 1 and min(map(data.__getitem__, ends[:-1])) <= _SPACE:
            found += (n for n in range(1, len(ends)) if _is_space(data, ends[n - 1], ends[n]))
        return found

    def rest(self, data: bytes, begin: int) -> None:
        """The line that is being read goes on with the bytes of `data` from `begin`."""
        if begin < len(data):
            self.filled = self.filled or not _is_space(data, self._skip(data, begin), len(data))

    def _skip(self, data: bytes, begin: int) -> int:
        if self._look:
            self._look = False
            if data.startswith(BOM, begin):
                return begin + len(BOM)
        return begin


def _is_space(data: bytes, begin: int, end: int) -> bool:
    if begin >= end:
        return True
    return data[begin] <= _SPACE and data[begin:end].isspace()


class Lines:
    """Where the lines of a file end, and which are blank: 8 bytes a line, and some more a blank one.

    `ends` are the offsets behind each line with its newline; `newline` tells whether the last line has
    one. `blank` are 0-based indexes, in order.
    """

    def __init__(self) -> None:
        self.ends = array("q")
        self.blank: list[int] = []
        self.newline = True

    @property
    def size(self) -> int:
        """Bytes of all lines."""
        return self.ends[-1] if self.ends else 0

    def __len__(self) -> int:
        return len(self.ends)

    def offset(self, index: int) -> int:
        """Where line `index` begins."""
        return self.ends[index - 1] if index else 0

    def length(self, index: int) -> int:
        """Its bytes without the newline."""
        return self.place(index)[1]

    def place(self, index: int) -> tuple[int, int]:
        """Where line `index` begins, and its bytes without the newline."""
        ends = self.ends
        begin = ends[index - 1] if index else 0
        ended = self.newline or index < len(ends) - 1
        return begin, ends[index] - begin - ended


def find_lines(
    source: int | Callable[[int], bytes], *, start_of_input: bool = False, block: int = SCAN_BLOCK
) -> Lines:
    """All lines of a file, from where it stands to its end; at most one block of it is held.

    Args:
        source: a descriptor, or `read(n)` that returns at most n bytes, and b"" at the end.
        start_of_input: line 0 of this is line 1 of the input; a BOM does not fill it.
        block: bytes to read at once.

    A last line without newline counts; after a final newline there is no further line. Raises OSError.
    """
    lines = Lines()
    finder = BlankFinder(start_of_input)
    base = 0
    for data in _blocks(_reader(source), block, start_of_input):
        ends = line_ends(data)
        lines.blank += (len(lines.ends) + index for index in finder.blanks(data, ends))
        lines.ends.extend([base + end for end in ends] if base else ends)
        finder.rest(data, ends[-1] if ends else 0)
        base += len(data)
    if base > lines.size:
        if not finder.filled:
            lines.blank.append(len(lines))
        lines.ends.append(base)
        lines.newline = False
    return lines


def scan_lines(
    source: int | Callable[[int], bytes], *, start_of_input: bool = False, block: int = SCAN_BLOCK
) -> Iterator[Line]:
    """The lines of a file one by one, see `find_lines`; only those of a block are held. Raises OSError."""
    finder = BlankFinder(start_of_input)
    index = start = base = 0  # this line, its offset, the offset of `data`
    for data in _blocks(_reader(source), block, start_of_input):
        ends = line_ends(data)
        blanks = set(finder.blanks(data, ends))
        for at, end in enumerate(ends):
            yield Line(index, start, base + end - 1 - start, at in blanks)
            index += 1
            start = base + end
        finder.rest(data, ends[-1] if ends else 0)
        base += len(data)
    if base > start:
        yield Line(index, start, base - start, not finder.filled)


def _blocks(read: Callable[[int], bytes], block: int, start_of_input: bool) -> Iterator[bytes]:
    data = read(block)
    while start_of_input and 0 < len(data) < len(BOM):
        more = read(block)
        if not more:
            break
        data += more
    while data:
        yield data
        data = read(block)


def _reader(source: int | Callable[[int], bytes]) -> Callable[[int], bytes]:
    if isinstance(source, int):
        fd = source
        return lambda count: os.read(fd, count)
    return source


def read_range(fd: int, offset: int, length: int) -> bytes:
    """`length` bytes from `offset`, fewer only where the file ends. Raises OSError."""
    data = read_at(fd, length, offset)
    if len(data) == length or not data:
        return data
    parts = [data]
    done = len(data)
    while done < length:
        data = read_at(fd, length - done, offset + done)
        if not data:
            break
        parts.append(data)
        done += len(data)
    return b"".join(parts)
