"""Lines of JSON from blocks of bytes. Only a newline byte ends one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_inferd.lines import BOM

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LINE = 256 * 1024 * 1024  # bytes: an image or two in base64 fit


def byte_lines(blocks: Iterator[bytes], limit: int = MAX_LINE) -> Iterator[tuple[int, bytes]]:
    """1-based number and content of each line that is not blank, without newline and BOM.

    Of a line of more than `limit` bytes only the first limit + 1 come, and no more of it is held.
    """
    number = 1
    parts: list[bytes] = []  # of the line that is being read
    size = 0
    for block in blocks:
        *ended, rest = block.split(b"\n")
        for piece in ended:
            line = _whole(parts, piece, limit, first=number == 1)
            size = 0
            if line and not line.isspace():
                yield number, line
            number += 1
        if rest and size <= limit + len(BOM):
            parts.append(rest)
            size += len(rest)
    line = _whole(parts, b"", limit, first=number == 1)
    if line and not line.isspace():
        yield number, line


def _whole(parts: list[bytes], end: bytes, limit: int, *, first: bool) -> bytes:
    """The line of its parts, which are given up, and of its end."""
    if parts:
        parts.append(end)
        line = b"".join(parts)
        parts.clear()
    else:
        line = end
    if first:
        line = line.removeprefix(BOM)
    return line if len(line) <= limit else line[: limit + 1]
