"""Writing one staged file as a stream: buffered, counted and hashed on its way to the disk."""

from __future__ import annotations

import hashlib
import os
from typing import TypedDict

from batch_inferd.lines import BLOCK
from batch_inferd.seams.files import Directory, sync, write_all


class FileFacts(TypedDict):
    """Size in bytes and SHA-256 (hex, as `sha256sum` prints it) of a file."""

    bytes: int
    sha256: str


class OutputFile:
    """A file that is being made. `finish` makes it durable, `abandon` only closes it."""

    def __init__(self, directory: Directory, name: str) -> None:
        """Create `name` (0600), which must not be there. Raises OSError."""
        self.name = name
        self._fd = directory.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        self._digest = hashlib.sha256()
        self._size = 0
        self._parts: list[bytes] = []
        self._waiting = 0

    def write(self, data: bytes) -> None:
        """Add bytes; they are written a block at a time. Raises OSError."""
        self._parts.append(data)
        self._waiting += len(data)
        if self._waiting >= BLOCK:
            self._flush()

    def write_line(self, line: bytes) -> None:
        """Add a line that has no newline yet. Raises OSError."""
        parts = self._parts
        parts.append(line)
        parts.append(b"\n")
        self._waiting += len(line) + 1
        if self._waiting >= BLOCK:
            self._flush()

    def _flush(self) -> None:
        data = b"".join(self._parts)
        self._parts.clear()
        self._waiting = 0
        self._digest.update(data)
        write_all(self._fd, data, self.name)
        self._size += len(data)

    def finish(self) -> FileFacts:
        """Write what waits, make the content durable, close. Raises OSError."""
        self._flush()
        sync(self._fd, self.name)
        self.abandon()
        return {"bytes": self._size, "sha256": self._digest.hexdigest()}

    def abandon(self) -> None:
        """Close without finishing; nothing if it is closed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
