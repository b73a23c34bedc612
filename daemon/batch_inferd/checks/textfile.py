"""A file line by line, in bounded memory: each line with a digest, and its text unless it is far too long."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LINE_MAX = 256 * 1024 * 1024  # bytes: no answer is longer
_BUFFER = 1024 * 1024


class TextLine(NamedTuple):
    """A line. `data` is without the newline, and None where the line is longer than `LINE_MAX`.

    `ended`: it has a newline. `digest`: 64 bits of all its bytes, as SQLite stores a number.
    """

    number: int  # from 1
    data: bytes | None
    ended: bool
    digest: int


def digest_of(data: bytes) -> int:
    """64 bits of a hash, signed."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big", signed=True)


def text_lines(fd: int, seen: Callable[[bytes], object], most: int = LINE_MAX) -> Iterator[TextLine]:
    """All lines from where `fd` stands; `seen` gets every byte, in order. Raises OSError."""
    with os.fdopen(fd, "rb", buffering=_BUFFER, closefd=False) as file:
        number = 0
        while piece := file.readline(most + 1):
            number += 1
            seen(piece)
            ended = piece.endswith(b"\n")
            if ended or len(piece) <= most:
                data = piece[:-1] if ended else piece
                yield TextLine(number, data, ended, digest_of(data))
                continue
            hashed = hashlib.blake2b(piece, digest_size=8)
            while not ended and (piece := file.readline(_BUFFER)):
                seen(piece)
                ended = piece.endswith(b"\n")
                hashed.update(piece[:-1] if ended else piece)
            digest = int.from_bytes(hashed.digest(), "big", signed=True)
            yield TextLine(number, None, ended, digest)
