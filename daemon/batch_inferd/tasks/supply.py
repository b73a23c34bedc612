"""A task's chunks for the workers: which are ready, who has one, and what became of it."""

from __future__ import annotations

import sqlite3
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any

from batch_inferd.seams.failpoint import failpoint
from batch_inferd.store.submissions import ONLINE
from batch_inferd.store.taskdb import ChunkRow, disk_errno
from batch_inferd.tasks.lease import Lease

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_inferd.scheduling.seat import Seat
    from batch_inferd.store.submissions import Change
    from batch_inferd.tasks.task import Task

_PAGE = 64


class Supply:
    """The scheduler's side of a task. One that runs as batches gives only chunks that go online."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._ready: deque[ChunkRow] = deque()
        self._ready_from = 0
        self._promised: set[int] = set()  # given by next_row, not yet granted
        self._unsaved: deque[tuple[str, int, str, str, dict[str, int] | None]] = deque()
        self._set_apart: set[int] = set()  # of a batch task: ready chunks that submissions left, or go online

    async def reset(self) -> None:
        """Begin with what the database says. Raises sqlite3.Error."""
        batch = self._task.batch
        self._ready.clear()
        self._ready_from = 0
        self._set_apart = await batch.store.set_apart() if batch is not None else set()

    @property
    def fresh(self) -> int:
        """Ready chunks that nobody has begun."""
        return self._task.progress.chunks["ready"] - len(self._set_apart)

    def changed(self, changes: Iterable[Change]) -> None:
        """The batch engine has moved chunks."""
        for _, row in changes:
            if row.state == "ready" and (row.since is not None or row.path == ONLINE):
                self._set_apart.add(row.n)
            else:
                self._set_apart.discard(row.n)

    async def next_row(self) -> ChunkRow | None:
        """A ready chunk, promised to the caller: it is granted, or given back by `keep`.

        None when there is none now. Raises sqlite3.Error.
        """
        task = self._task
        path = None if task.batch is None else ONLINE
        candidates = task.progress.chunks["ready"] if task.batch is None else len(self._set_apart)
        if not self._ready and candidates:
            rows = await task.db.page(self._ready_from, _PAGE, "ready", path)
            if not rows and self._ready_from:
                rows = await task.db.page(0, _PAGE, "ready", path)  # released chunks stand before it
            taken = self._promised | {lease.row.n for lease in task.leases.values()}
            self._ready.extend(row for row in rows if row.n not in taken)
            self._ready_from = rows[-1].n if rows else 0
        if not self._ready:
            return None
        row = self._ready.popleft()
        self._promised.add(row.n)
        return row

    def keep(self, row: ChunkRow) -> None:
        """A promised chunk was not granted after all."""
        self._promised.discard(row.n)
        self._ready_from = 0

    async def grant(self, row: ChunkRow, seat: Seat) -> Lease:
        """Commit a lease of `row`, which `next_row` gave, to `seat`. Raises OSError, sqlite3.Error."""
        task = self._task
        self._promised.discard(row.n)
        lease = Lease(uuid.uuid4().hex[:12], task, row, seat)
        task.leases[lease.id] = lease
        task.progress.leased(lease.id, row)
        try:
            first = await task.db.grant(lease.id, row.n, seat.key, task.context.clock.now())
        except BaseException:
            del task.leases[lease.id]
            task.progress.ended(lease.id, "ready", None)
            self._ready_from = 0
            raise
        # Results of batches, and what a cancelled task never sent, are journaled without a lease.
        lease.fresh = first and task.batch is None and not task.round
        self._set_apart.discard(row.n)
        failpoint("lease.committed")
        return lease

    async def lease_ended(self, lease: Lease, outcome: str, counters: dict[str, Any] | None) -> None:
        """A worker gave a chunk back (`sealed`: it is done), or died with it."""
        task = self._task
        state = "done" if outcome == "sealed" else "ready"
        task.leases.pop(lease.id, None)
        counts = task.progress.ended(lease.id, state, counters)
        if state == "done":
            task.room.progressed()
        else:
            self._ready_from = 0
            if task.batch is not None:
                self._set_apart.add(lease.row.n)
        task.budget.lease_ended()
        if not task.forgotten:
            end = (lease.id, lease.row.n, state, outcome, counts)
            try:
                await task.db.end_lease(*end, now=task.context.clock.now())
            except (OSError, sqlite3.Error) as error:
                self._unsaved.append(end)  # committed before the driver does anything else
                await task.fault(disk_errno(error), str(error))
            if state == "done":
                failpoint("seal.committed")
        task.wake()
        task.changed()

    async def save_ended(self) -> None:
        """Commit ends of leases that could not be committed when they came. Raises sqlite3.Error."""
        while self._unsaved:
            await self._task.db.end_lease(*self._unsaved[0], now=self._task.context.clock.now())
            self._unsaved.popleft()
