"""The journal that a job writes for one chunk: made at its first line, written in blocks."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from batch_inferd.journal.names import journal_name
from batch_inferd.journal.writer import JournalWriter

if TYPE_CHECKING:
    from batch_inferd.seams.files import Directory
    from batch_inferd.worker.guard import WriteGuard

_BLOCK = 256 * 1024


class JobJournal:
    """Collects lines; nothing of them is durable before `finish`. A job that is run again gets a new one."""

    def __init__(self, directory: Directory, chunk: int, job: str, guard: WriteGuard) -> None:
        self._directory = directory
        self._chunk = chunk
        self._job = job
        self._guard = guard
        self._writer: JournalWriter | None = None
        self._lines: list[bytes] = []
        self._held = 0

    def add(self, line: bytes) -> None:
        """The next line. Raises OSError."""
        self._lines.append(line)
        self._held += len(line)
        if self._held >= _BLOCK:
            self._flush()

    def finish(self) -> None:
        """Make all lines durable, and the journal's name in its folder. Raises OSError."""
        if self._lines:
            self._flush()
        if self._writer is not None:
            self._writer.sync()
            self._writer.close()
            self._writer = None

    def abandon(self) -> None:
        """Close it as it is; after `finish` nothing. What was written counts for the next who reads it."""
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.close()

    def _flush(self) -> None:
        if self._writer is None:
            self._writer = self._create()
        data = b"".join(self._lines)
        self._lines.clear()
        self._held = 0
        with self._guard:
            self._writer.append(data)

    def _create(self) -> JournalWriter:
        number = 1
        while True:
            lease = self._job if number == 1 else f"{self._job}-{number}"
            try:
                return JournalWriter(self._directory, journal_name(self._chunk, lease))
            except FileExistsError:
                number += 1
