"""Files and batches on disk: batches.db, with one thread that works on it, and the folder files/.

What is to be done with the database comes as a function; the functions stand in `file_rows` and
`batch_rows`. Whatever waits is done in one transaction, as in the ledger, and is on disk before anybody
gets a result.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from batch_inferd.testing.batch_ledger import BATCHES_NAME, BATCHES_VERSION
from batch_inferd.testing.database import next_group, open_database

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")
FILES_NAME = "files"
_log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE files (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    purpose TEXT NOT NULL,
    filename TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    sha256 TEXT,
    created REAL NOT NULL,
    expires REAL,
    deleted REAL
);
CREATE TABLE batches (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    created REAL NOT NULL,
    expires REAL NOT NULL,
    latency REAL NOT NULL,
    endpoint TEXT NOT NULL,
    window TEXT NOT NULL,
    metadata TEXT,
    token TEXT,
    input_file TEXT NOT NULL,
    input_sha256 TEXT NOT NULL,
    input_bytes INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    controls TEXT NOT NULL,
    output_ref TEXT NOT NULL,
    error_ref TEXT NOT NULL,
    state TEXT NOT NULL,
    model TEXT,
    lines INTEGER,
    tokens INTEGER,
    done INTEGER NOT NULL DEFAULT 0,
    done_line INTEGER NOT NULL DEFAULT 0,
    done_bytes INTEGER NOT NULL DEFAULT 0,
    completed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    output_bytes INTEGER NOT NULL DEFAULT 0,
    error_bytes INTEGER NOT NULL DEFAULT 0,
    output_file TEXT,
    error_file TEXT,
    in_progress_at REAL,
    finalizing_at REAL,
    completed_at REAL,
    failed_at REAL,
    expired_at REAL,
    cancelling_at REAL,
    cancelled_at REAL,
    ended REAL,
    problems TEXT
);
CREATE INDEX live ON batches (seq) WHERE ended IS NULL;
CREATE TABLE lines (
    batch INTEGER NOT NULL,
    line INTEGER NOT NULL,
    custom_id TEXT,
    digest BLOB,
    billed_in INTEGER,
    billed_out INTEGER,
    PRIMARY KEY (batch, line)
) WITHOUT ROWID;
"""


class StoreError(Exception):
    """The database of files and batches cannot be opened, read or written."""


_Job = tuple["Callable[[sqlite3.Connection], Any]", "Future[Any]"]


class BatchStore:
    """The database and its thread. Any thread may ask."""

    def __init__(self, state_dir: Path) -> None:
        """Open or create it. Raises StoreError, or OSError of the folder."""
        self.folder = state_dir / FILES_NAME
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._closing = threading.Lock()
        try:
            self._database = open_database(state_dir / BATCHES_NAME, _SCHEMA, BATCHES_VERSION)
        except sqlite3.Error as error:
            raise StoreError(f"cannot open {state_dir / BATCHES_NAME}: {error}") from error
        self._thread = threading.Thread(target=self._run, name="batch-store", daemon=True)
        self._thread.start()

    async def call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do something with the database; returns once it is durable. Raises StoreError and its errors."""
        return await asyncio.wrap_future(self._submit(work))

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """As `call`, for threads."""
        return self._submit(work).result()

    def close(self) -> None:
        """Do what is waiting, and end the thread."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()

    def _submit(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        future: Future[T] = Future()
        with self._closing:
            if self._closed:
                raise StoreError("the database of batches is closed")
            self._queue.put((work, future))
        return future

    def _run(self) -> None:
        while (group := next_group(self._queue)) is not None:
            self._do(group)
        self._database.close()

    def _do(self, group: list[_Job]) -> None:
        done: list[tuple[Future[Any], Any, Exception | None]] = []
        try:
            self._database.execute("BEGIN")
            for work, future in group:
                if future.set_running_or_notify_cancel():
                    done.append((future, *self._do_one(work)))
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            _log.error("%d changes of the batches are lost: %s", len(group), error)
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            lost = StoreError(f"the database of batches cannot be used: {error}")
            for _, future in group:
                if not future.cancelled():
                    future.set_exception(lost)
            return
        for future, result, refused in done:
            if refused is None:
                future.set_result(result)
            else:
                future.set_exception(refused)

    def _do_one(self, work: Callable[[sqlite3.Connection], Any]) -> tuple[Any, Exception | None]:
        """Result or error of one job; what a refused job has changed is undone, and others' is not."""
        self._database.execute("SAVEPOINT job")
        try:
            result = work(self._database)
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001  handed to whoever asked
            self._database.execute("ROLLBACK TO job")
            self._database.execute("RELEASE job")
            return None, error
        self._database.execute("RELEASE job")
        return result, None
