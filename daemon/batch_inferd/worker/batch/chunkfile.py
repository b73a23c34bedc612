"""A chunk file in a job's hands: where its lines stand, and which of them are open."""

from __future__ import annotations

import errno
import os
from array import array
from typing import TYPE_CHECKING

from batch_inferd.lines import scan_lines
from batch_inferd.worker.batch.window import Window

if TYPE_CHECKING:
    from batch_inferd.journal.reader import ChunkState
    from batch_inferd.seams.files import Directory
    from batch_inferd.worker.batch.messages import ChunkRef


class ChunkFile:
    """Lines by 0-based index: line `first` + index of the input. 17 bytes each are held."""

    def __init__(self, directory: Directory, ref: ChunkRef) -> None:
        """Open and scan it. Raises OSError, also where it is not what was cut."""
        self.first = ref.first_line
        self.length = array("q")
        self._offset = array("q")
        self._content = bytearray()  # 1: not blank
        self._fd = directory.open(ref.chunk_file, os.O_RDONLY)
        try:
            self._scan(ref)
        except BaseException:
            os.close(self._fd)
            raise
        self._window = Window(self._fd, ref.chunk_file)

    def _scan(self, ref: ChunkRef) -> None:
        for _, offset, length, blank in scan_lines(self._fd, start_of_input=ref.first_line == 1):
            self._offset.append(offset)
            self.length.append(length)
            self._content.append(not blank)
        if len(self) != ref.lines:
            wrong = f"the chunk file has {len(self)} lines, it was cut with {ref.lines}"
            raise OSError(errno.EIO, wrong, ref.chunk_file)

    def __len__(self) -> int:
        return len(self._content)

    def close(self) -> None:
        """Give the file back."""
        os.close(self._fd)

    def read(self, index: int, limit: int | None = None) -> bytes:
        """A line, at most `limit` bytes of it. Raises OSError."""
        length = self.length[index]
        return self._window.read(self._offset[index], length if limit is None else min(length, limit))

    def open_lines(self, state: ChunkState) -> bytearray:
        """A byte a line: 1 for each that has not ended."""
        found = self._content[:]
        for line in state.terminals:
            if 0 <= (index := line - self.first) < len(found):
                found[index] = 0
        return found

    def online_lines(self, state: ChunkState, among: bytearray) -> list[int]:
        """The indexes of those lines, marked in `among`, that online calls finish."""
        return [
            index
            for line, known in state.open_lines.items()
            if known.online and 0 <= (index := line - self.first) < len(among) and among[index]
        ]
