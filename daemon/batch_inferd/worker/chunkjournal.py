"""A lease's journal as the event loop uses it: written at once, and synced in a thread."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batch_inferd.journal.writer import JournalWriter
    from batch_inferd.worker.guard import WriteGuard


_GROUP_BYTES = 256 * 1024  # more is written before the turn ends


class ChunkJournal:
    """Wraps a writer. What is recorded in one turn of the loop is one write."""

    def __init__(self, writer: JournalWriter, guard: WriteGuard, strict: bool) -> None:
        self._writer = writer
        self._guard = guard
        self._strict = strict
        self._syncing: asyncio.Task[None] | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._written: asyncio.Future[int] | None = None  # of those that wait

    @property
    def name(self) -> str:
        """Relative to the task's folder."""
        return self._writer.name

    @property
    def size(self) -> int:
        """Bytes written."""
        return self._writer.size

    @property
    def checksum(self) -> int:
        """The CRC-32 of the bytes written."""
        return self._writer.checksum

    @property
    def needs_sync(self) -> bool:
        """Whether something was appended that may not be on the disk yet."""
        return self._writer.needs_sync

    def append(self, data: bytes) -> None:
        """Write whole lines to the kernel at once. Raises OSError; then nothing of `data` is recorded."""
        with self._guard:
            self._writer.append(data)

    async def commit(self, data: bytes) -> int:
        """Append a line with the others of this turn; returns its offset. Raises OSError: it does not count.

        With `strict` it is on the disk when this returns. Not to be cancelled: the others would be, too.
        """
        before = self._waiting_bytes
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        written = self._written
        if written is None:
            loop = asyncio.get_running_loop()
            written = self._written = loop.create_future()
            loop.call_soon(self._write)
        elif self._waiting_bytes > _GROUP_BYTES:
            self._write()
        at = await written + before
        if self._strict:
            end = at + len(data)
            while self._writer.size - self._writer.unsynced < end:
                await self._sync_once()
        return at

    def _write(self) -> None:
        waiting, written = self._waiting, self._written
        if written is None:
            return
        self._waiting, self._waiting_bytes, self._written = [], 0, None
        at = self._writer.size
        try:
            self.append(b"".join(waiting))
        except Exception as error:  # noqa: BLE001  each of them must learn of it
            written.set_exception(error)
        else:
            written.set_result(at)

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
