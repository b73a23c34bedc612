"""A lease's journal as the event loop uses it: written in groups, and synced in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batch_inferd.journal.writer import JournalWriter
    from batch_inferd.worker.guard import WriteGuard

# Where the line begins in the journal, or why it is not there.
Settle = Callable[[int, OSError | None], None]

_GROUP_S = 0.002
_GROUP_BYTES = 512 * 1024
_LARGE = 64 * 1024  # bytes


class ChunkJournal:
    """Wraps a writer. Lines that come within milliseconds are written together.

    Each write lets other threads have the interpreter, which costs more than the write itself.
    """

    def __init__(self, writer: JournalWriter, guard: WriteGuard, strict: bool) -> None:
        self._writer = writer
        self._guard = guard
        self._strict = strict
        self._syncing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: list[tuple[bytes, Settle]] = []
        self._waiting_bytes = 0

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

    def write_soon(self, data: bytes, settle: Settle) -> None:
        """Append a line with others that come within milliseconds; then `settle` is called.

        It may be called before this returns. With an error nothing of the line is recorded.
        """
        if len(data) > _LARGE:  # it does not stay in memory to wait for others
            self._write([(data, settle)])
            return
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_GROUP_S, self._write_group)
        self._waiting.append((data, settle))
        self._waiting_bytes += len(data)
        if self._waiting_bytes > _GROUP_BYTES:
            self._write_group()

    async def commit(self, data: bytes) -> int:
        """Append a line at once; returns its offset. Raises OSError: it does not count.

        With `strict` it is on the disk when this returns.
        """
        at = self._writer.size
        self.append(data)
        if self._strict:
            size = self._writer.size
            while self._writer.size - self._writer.unsynced < size:
                await self._sync_once()
        return at

    def _write_group(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        self._waiting_bytes = 0
        self._write(waiting)

    def _write(self, lines: list[tuple[bytes, Settle]]) -> None:
        at = self._writer.size
        failed: OSError | None = None
        try:
            self.append(b"".join([data for data, _ in lines]))
        except OSError as error:
            failed = error
        except Exception as error:  # noqa: BLE001  whoever waits must learn of it
            failed = OSError(None, f"internal error: {error!r}")
        for data, settle in lines:
            settle(at, failed)
            at += len(data)

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
