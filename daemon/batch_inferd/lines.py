"""Lines of a file by offset: found in bounded memory however long they are.

Only a newline byte ends a line, as everywhere in batch_infer: a lone CR or U+2028 is content.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.seams.files import read_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCK = 1024 * 1024
BOM = b"\xef\xbb\xbf"
_SPACE = 0x20  # every byte of white space is at or below it


class Line(NamedTuple):
    """A line's 0-based index, byte offset, length without its newline, and whether it is blank."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks of a line
    offset: int
    length: int
    blank: bool


def scan_lines(
    source: int | Callable[[int], bytes], *, start_of_input: bool = False, block: int = BLOCK
) -> Iterator[Line]:
    """The lines of a file, from where it stands to its end, holding at most one block of it.

    Args:
        source: a descriptor, or `read(n)` that returns at most n bytes, and b"" at the end.
        start_of_input: line 0 of this is line 1 of the input; a BOM does not fill it.
        block: bytes to read at once.

    A last line without newline counts; after a final newline there is no further line. Raises OSError.
    """
    read = _reader(source)
    data = read(block)
    while start_of_input and 0 < len(data) < len(BOM):
        more = read(block)
        if not more:
            break
        data += more
    look = len(BOM) if start_of_input and data.startswith(BOM) else 0  # where the first line's content begins
    index = start = base = 0  # this line, its offset, the offset of `data`
    blank = True  # so far: a line may go through many blocks
    while data:
        at = 0
        while (end := data.find(b"\n", at)) >= 0:
            yield Line(index, start, base + end - start, blank and _is_space(data, at + look, end))
            index += 1
            at = end + 1
            start = base + at
            blank = True
            look = 0
        if at < len(data):
            blank = blank and _is_space(data, at + look, len(data))
            look = 0
        base += len(data)
        data = read(block)
    if base > start:
        yield Line(index, start, base - start, blank)


def _reader(source: int | Callable[[int], bytes]) -> Callable[[int], bytes]:
    if isinstance(source, int):
        fd = source
        return lambda count: os.read(fd, count)
    return source


def _is_space(data: bytes, begin: int, end: int) -> bool:
    if begin >= end:
        return True
    return data[begin] <= _SPACE and data[begin:end].isspace()


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
