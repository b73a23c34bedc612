"""A chunk's records that were never sent. One is made when its turn comes: most of them only wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_inferd.worker.record import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch_inferd.lines import Lines
    from batch_inferd.worker.chunk import LeasedChunk


class Fresh:
    """A queue of records, in line order; its length is how many are left."""

    def __init__(self, chunk: LeasedChunk, lines: Lines, indexes: Sequence[int]) -> None:
        """`indexes` are those of the records among the chunk file's `lines`."""
        self.chunk = chunk
        self._lines = lines
        self._indexes = indexes
        self._next = 0
        self._head: Record | None = None

    def __len__(self) -> int:
        return len(self._indexes) - self._next

    def head(self) -> Record:
        """The first one. Raises IndexError when none is left."""
        record = self._head
        if record is None:
            index = self._indexes[self._next]
            line = self.chunk.lease.first_line + index
            record = self._head = Record(self.chunk, line, *self._lines.place(index))
        return record

    def pop(self) -> None:
        """Take the first one away."""
        self._head = None
        self._next += 1
