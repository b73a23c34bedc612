"""Lines of JSON from blocks of bytes. Only a newline byte ends one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_inferd.lines import BOM

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LINE = 256 * 1024 * 1024  # bytes: an image or two in base64 fit


def byte_lines(blocks: Iterator[bytes], limit: int = MAX_LINE) -> Iterator[tuple[int, bytes]]:
    """1-based number and content of each line that is not blank, without newline and BOM.

    Of a line of more than `limit` bytes only the first limit + 1 come.
    """
    number = 1
    parts: list[bytes] = []  # of the line that is being read
    size = 0
    for block in blocks:
        *ended, rest = block.split(b"\n")
        for piece in ended:
            line = b"".join([*parts, piece]) if parts else piece
            parts, size = [], 0
            if number == 1:
                line = line.removeprefix(BOM)
            if line and not line.isspace():
                yield number, line[: limit + 1]
            number += 1
        if rest and size <= limit:
            parts.append(rest)
            size += len(rest)
    line = b"".join(parts)
    if number == 1:
        line = line.removeprefix(BOM)
    if line and not line.isspace():
        yield number, line[: limit + 1]
