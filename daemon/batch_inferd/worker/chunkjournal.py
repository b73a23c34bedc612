"""A lease's journal as the event loop uses it: appends at once, syncs in a thread, one for all who wait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batch_inferd.journal.writer import JournalWriter
    from batch_inferd.worker.guard import WriteGuard


class ChunkJournal:
    """Wraps a writer. With `strict`, what `commit` returns from is on the disk; else it is in the kernel."""

    def __init__(self, writer: JournalWriter, guard: WriteGuard, strict: bool) -> None:
        self._writer = writer
        self._guard = guard
        self._strict = strict
        self._syncing: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """Relative to the task's folder."""
        return self._writer.name

    @property
    def size(self) -> int:
        """Bytes written."""
        return self._writer.size

    @property
    def needs_sync(self) -> bool:
        """Whether something was appended that may not be on the disk yet."""
        return self._writer.needs_sync

    def append(self, data: bytes) -> None:
        """Write whole lines to the kernel. Raises OSError; then nothing of `data` is recorded."""
        with self._guard:
            self._writer.append(data)

    async def commit(self, data: bytes) -> None:
        """Append what counts from now on. Raises OSError; then it does not count."""
        self.append(data)
        if self._strict:
            size = self._writer.size
            while self._writer.size - self._writer.unsynced < size:
                await self._sync_once()

    async def sync(self) -> None:
        """Make what was appended before this call durable, or share a sync that runs. Raises OSError."""
        if self._writer.needs_sync:
            await self._sync_once()

    async def settle(self) -> None:
        """Make everything durable, the journal's name in its folder too. Raises OSError."""
        while self._writer.needs_sync:
            await self._sync_once()

    async def _sync_once(self) -> None:
        if self._syncing is None or self._syncing.done():
            self._syncing = asyncio.create_task(asyncio.to_thread(self._writer.sync), name="sync")
        await asyncio.shield(self._syncing)

    def close(self) -> None:
        """Give the file back, without a sync; waits for one that runs."""
        self._writer.close()
