"""Writing one staged file as a stream: buffered, counted and hashed on its way to the disk."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat
from typing import TYPE_CHECKING, TypedDict

from batch_inferd.merge.behind import Behind
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

    def __init__(self, directory: Directory, name: str, thread: ThreadPoolExecutor | None = None) -> None:
        """Create `name` (0600), which must not be there. Raises OSError.

        With a `thread`, of one worker, blocks are hashed and written there while the next is filled; what
        goes wrong with one is raised by a later call, `finish` at the latest.
        """
        self.name = name
        self._fd = directory.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        self._digest = hashlib.sha256()
        self._size = 0
        # Buffers for the file's whole life: new memory for each block costs more than all the rest.
        self._buffer, self._spare = io.BytesIO(), io.BytesIO()
        self._writing = None if thread is None else Behind(thread)
        self._unsynced = 0
        self._sync_thread: ThreadPoolExecutor | None = None
        self._syncing: Behind | None = None

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
        full = self._buffer
        if self._writing is None:
            self._put(full)
        else:
            self._writing.start(lambda: self._put(full))  # the spare one is out by now
            self._buffer, self._spare = self._spare, full

    def _put(self, block: io.BytesIO) -> None:
        size = block.tell()
        with block.getbuffer() as buffer, buffer[:size] as data:
            self._digest.update(data)
            write_all(self._fd, data, self.name)
        block.seek(0)
        self._size += size
        self._unsynced += size
        if self._unsynced >= _SYNC:
            self._sync_ahead()

    def _sync_ahead(self) -> None:
        """Let the disk work meanwhile: at the end nobody waits for all of it."""
        if self._syncing is None:
            self._sync_thread = ThreadPoolExecutor(1, "sync")
            self._syncing = Behind(self._sync_thread)
        self._syncing.start(lambda: sync(self._fd, self.name))
        self._unsynced = 0

    def finish(self) -> FileFacts:
        """Write what waits, make the content durable, close. Raises OSError."""
        self._flush()
        for under_way in (self._writing, self._syncing):
            if under_way is not None:
                under_way.wait()
        sync(self._fd, self.name)
        self.abandon()
        return {"bytes": self._size, "sha256": self._digest.hexdigest()}

    def abandon(self) -> None:
        """Close without finishing; nothing if it is closed."""
        if self._fd < 0:
            return
        for under_way in (self._writing, self._syncing):
            if under_way is not None:
                with contextlib.suppress(OSError):  # it does not count any more
                    under_way.wait()
        if self._sync_thread is not None:
            self._sync_thread.shutdown()
        os.close(self._fd)
        self._fd = -1
