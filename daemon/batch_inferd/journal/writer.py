"""Writing a journal: appended by the worker's loop, made durable by a thread beside it."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import zlib

from batch_inferd.seams.failpoint import failpoint
from batch_inferd.seams.files import Directory, sync, write_all


class BrokenJournal(OSError):  # noqa: N818  said of the journal
    """Nothing more can be written: a sync failed, or a torn tail could not be cut. `errno` says why."""


class JournalWriter:
    """The one writer of a journal, which it creates; a file of that name must not be there yet.

    `append` and `close` belong to one thread; `sync` may run in another one meanwhile.
    """

    def __init__(self, directory: Directory, name: str, strict: bool = False) -> None:
        """Create the journal `name` (0600). Raises OSError.

        Args:
            directory: the task's folder.
            name: from `names.journal_name`; its folder must exist.
            strict: each append is durable before it returns (durability: strict). Call it off the loop.
        """
        self.name = name
        self._directory = directory
        self._strict = strict
        self._fd = directory.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)
        self._lock = threading.Lock()  # one sync at a time, and none while closing
        self._size = 0
        self._checksum = 0
        self._durable = 0
        self._entry_durable = False  # the file's name in its folder
        self._broken: int | None = None

    @property
    def size(self) -> int:
        """Bytes written."""
        return self._size

    @property
    def checksum(self) -> int:
        """The CRC-32 of the bytes written."""
        return self._checksum

    @property
    def unsynced(self) -> int:
        """Bytes written, and not yet known to be on the disk."""
        return self._size - self._durable

    @property
    def needs_sync(self) -> bool:
        """Whether `sync` has anything to do."""
        return self._durable < self._size or not self._entry_durable

    def append(self, data: bytes) -> None:
        """Write whole lines, together: all of `data` stands in the journal, or nothing of it.

        When this raises OSError, the records of `data` have not been recorded. After ENOSPC and the like
        the writer can be used again; it raises BrokenJournal when it cannot.
        """
        self._check()
        failpoint("journal.before_write")
        try:
            write_all(self._fd, data, self.name)
            failpoint("journal.written")
        except OSError:
            self._cut_back()
            raise
        self._size += len(data)
        self._checksum = zlib.crc32(data, self._checksum)
        if self._strict:
            self.sync()

    def _cut_back(self) -> None:
        try:
            os.ftruncate(self._fd, self._size)
        except OSError as error:
            self._broken = error.errno or errno.EIO

    def sync(self) -> None:
        """Make what was appended before this call durable. Blocks. Raises OSError.

        A failure breaks the writer for good: the kernel may have dropped what it could not write, and
        would report success the next time.
        """
        with self._lock:
            self._check()
            size = self._size
            if self._durable >= size and self._entry_durable:
                return
            try:
                sync(self._fd, self.name)
                if not self._entry_durable:
                    self._directory.sync(self.name.rpartition("/")[0] or ".")
            except OSError as error:
                self._broken = error.errno or errno.EIO
                raise
            self._entry_durable = True
            self._durable = size

    def _check(self) -> None:
        if self._broken is not None:
            raise BrokenJournal(self._broken, f"{os.strerror(self._broken)} (journal given up)", self.name)
        if self._fd < 0:
            raise BrokenJournal(errno.EBADF, "the journal is closed", self.name)

    def close(self) -> None:
        """Give the file back, without a sync; waits for one that runs. A journal without a byte is removed.

        Raises OSError, as a network file system may tell only now what it could not write.
        """
        with self._lock:
            if self._fd < 0:
                return
            fd, self._fd = self._fd, -1
            try:
                empty = os.fstat(fd).st_size == 0
            finally:
                os.close(fd)
            if empty and self._directory.still_there():
                # The name is this lease's own: it cannot be anybody else's file.
                with contextlib.suppress(OSError):
                    self._directory.unlink(self.name)
