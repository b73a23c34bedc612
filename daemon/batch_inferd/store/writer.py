"""The one thread that talks to SQLite, for all tasks of the daemon.

Whatever waits in its queue for the same database goes into one transaction, so that many small writes
cost one fsync; a write that fails alone is rolled back alone. A write's future is done only after its
commit: what was awaited is on the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
_GROUP = 256  # jobs of one transaction at most: bounds how long the first of them waits


class _Job(NamedTuple):
    connection: sqlite3.Connection | None  # None: run outside any transaction (opening, closing)
    work: Callable[..., Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class StoreWriter:
    """Runs jobs in its thread. Made once a daemon; `close` ends it after what was queued."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    async def write(self, connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work(connection)` in a transaction; returns after the commit. Raises sqlite3.Error."""
        return await self._submit(connection, lambda: work(connection))

    async def call(self, work: Callable[[], T]) -> T:
        """Run `work()` in the thread, outside any transaction: for opening and closing databases."""
        return await self._submit(None, work)

    def _submit(self, connection: sqlite3.Connection | None, work: Callable[[], T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.put(_Job(connection, work, future, loop))
        return future

    def close(self) -> None:
        """Finish what is queued, then end the thread. Blocks shortly."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        ended = False
        while not ended:
            jobs: list[_Job] = []
            job = self._queue.get()
            while True:
                if job is None:
                    ended = True
                    break
                jobs.append(job)
                if len(jobs) >= _GROUP:
                    break
                try:
                    job = self._queue.get_nowait()
                except queue.Empty:
                    break
            self._run_in_groups(jobs)

    def _run_in_groups(self, jobs: list[_Job]) -> None:
        group: list[_Job] = []
        for job in jobs:
            if job.connection is None or (group and group[0].connection is not job.connection):
                _run_group(group)
                group = []
            if job.connection is None:
                _run_alone(job)
            else:
                group.append(job)
        _run_group(group)


def _run_alone(job: _Job) -> None:
    try:
        value = job.work()
    except BaseException as error:  # noqa: BLE001  it belongs to the one who awaits
        _resolve(job, error=error)
    else:
        _resolve(job, value)


def _run_group(group: list[_Job]) -> None:
    """One transaction. Whatever happens in it belongs to those who await: the thread must live."""
    if not group:
        return
    connection = group[0].connection
    assert connection is not None  # noqa: S101  groups are made of jobs with one
    try:
        outcomes = _transaction(connection, group)
    except BaseException as error:  # noqa: BLE001
        for job in group:
            _resolve(job, error=error)
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        return
    for job, value, failed in outcomes:
        _resolve(job, value, failed)


def _transaction(
    connection: sqlite3.Connection, group: list[_Job]
) -> list[tuple[_Job, Any, BaseException | None]]:
    outcomes: list[tuple[_Job, Any, BaseException | None]] = []
    connection.execute("BEGIN IMMEDIATE")
    for job in group:
        connection.execute("SAVEPOINT job")
        try:
            value = job.work()
        except BaseException as error:
            if not connection.in_transaction:
                raise  # a full disk: SQLite has rolled back all of it, and this is why
            connection.execute("ROLLBACK TO job")
            connection.execute("RELEASE job")
            outcomes.append((job, None, error))
        else:
            connection.execute("RELEASE job")
            outcomes.append((job, value, None))
    connection.execute("COMMIT")
    return outcomes


def _resolve(job: _Job, value: Any = None, error: BaseException | None = None) -> None:
    def settle() -> None:
        if job.future.done():
            return
        if error is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(value)

    if not job.loop.is_closed():
        job.loop.call_soon_threadsafe(settle)
