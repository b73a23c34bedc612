"""Writing one staged file as a stream: buffered, counted and hashed on its way to the disk."""

from __future__ import annotations

import hashlib
import io
import os
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, repeat
from typing import TYPE_CHECKING, TypedDict

from batch_inferd.seams.files import Directory, sync, write_all

if TYPE_CHECKING:
    from collections.abc import Iterable

_BLOCK = 256 * 1024  # fits the cache of a core
_SYNC = 32 * 1024 * 1024  # bytes that are synced while the next are made


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
        # One buffer for the file's whole life: new memory for each block costs more than all the rest.
        self._buffer = io.BytesIO()
        self._unsynced = 0
        self._syncing: ThreadPoolExecutor | None = None
        self._sync: Future[None] | None = None

    def write(self, data: bytes) -> None:
        """Add bytes; they are written a block at a time. Raises OSError."""
        self._buffer.write(data)
        if self._buffer.tell() >= _BLOCK:
            self._flush()

    def write_line(self, line: bytes) -> None:
        """Add a line that has no newline yet. Raises OSError."""
        self.write_lines((line,))

    def write_lines(self, lines: Iterable[bytes | memoryview]) -> None:
        """Add lines that have no newlines yet. Raises OSError."""
        self._buffer.writelines(chain.from_iterable(zip(lines, repeat(b"\n"))))
        if self._buffer.tell() >= _BLOCK:
            self._flush()

    def _flush(self) -> None:
        size = self._buffer.tell()
        with self._buffer.getbuffer() as buffer, buffer[:size] as data:
            self._digest.update(data)
            write_all(self._fd, data, self.name)
        self._size += size
        self._buffer.seek(0)
        self._unsynced += size
        if self._unsynced >= _SYNC:
            self._sync_ahead()

    def _sync_ahead(self) -> None:
        """Let the disk work meanwhile: at the end nobody waits for all of it."""
        if self._syncing is None:
            self._syncing = ThreadPoolExecutor(1, "sync")
        if self._sync is not None:
            self._sync.result()
        self._sync = self._syncing.submit(sync, self._fd, self.name)
        self._unsynced = 0

    def finish(self) -> FileFacts:
        """Write what waits, make the content durable, close. Raises OSError."""
        self._flush()
        if self._sync is not None:
            self._sync.result()
        sync(self._fd, self.name)
        self.abandon()
        return {"bytes": self._size, "sha256": self._digest.hexdigest()}

    def abandon(self) -> None:
        """Close without finishing; nothing if it is closed."""
        if self._syncing is not None:
            self._syncing.shutdown()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
