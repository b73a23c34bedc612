"""Writes the ledger: one thread, one connection, commits grouped over whatever is waiting.

An answer waits for its row's commit. A group is as large as what came in during the commit before
it, so the disk's latency bounds the delay of one answer and not the number of answers.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.testing.database import next_group, open_database
from batch_inferd.testing.ledger import LEDGER_NAME, SCHEMA, SCHEMA_VERSION

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)
_LAZY_S = 0.02  # how long a row that nobody waits for may stay uncommitted

_ARRIVE = (
    "INSERT INTO requests (serial, time, method, path, key_digest, model, content_digest, in_flight, outcome)"
    " VALUES (:serial, :time, :method, :path, :key_digest, :model, :content_digest, :in_flight, 'received')"
)
_SETTLE = (
    "UPDATE requests SET outcome = :outcome, status = :status, billed_in = :billed_in,"
    " billed_out = :billed_out WHERE serial = :serial"
)
_DELIVER = "UPDATE requests SET delivered = 1 WHERE serial = :serial"


class LedgerError(Exception):
    """The ledger cannot be opened or written."""


class Arrival(NamedTuple):
    """A request as it came in."""

    serial: int
    time: float
    method: str
    path: str
    key_digest: str | None
    model: str | None
    content_digest: str | None
    in_flight: int


class Settlement(NamedTuple):
    """How a request ends; committed before any byte of it is sent."""

    serial: int
    outcome: str
    status: int | None = None
    billed_in: int | None = None
    billed_out: int | None = None


class Delivery(NamedTuple):
    """All of the answer went out."""

    serial: int


_Item = tuple[Arrival | Settlement | Delivery | None, "asyncio.Future[None] | None"]


class LedgerWriter:
    """The service's end of the ledger. All methods belong to the event loop that made it."""

    def __init__(self, state_dir: Path) -> None:
        """Open or create the ledger. Raises LedgerError."""
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._lazy: list[_Item] = []
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        try:
            self._database = open_database(state_dir / LEDGER_NAME, SCHEMA, SCHEMA_VERSION)
            highest = self._database.execute("SELECT MAX(serial) FROM requests").fetchone()[0]
        except sqlite3.Error as error:
            raise LedgerError(f"cannot open the ledger {state_dir / LEDGER_NAME}: {error}") from error
        self._serial: int = highest or 0
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    def arrive(
        self,
        *,
        method: str,
        path: str,
        key_digest: str | None,
        model: str | None,
        content_digest: str | None,
        in_flight: int,
    ) -> int:
        """Write down a request; its serial. Committed soon, or with the next settlement."""
        self._serial += 1
        arrival = Arrival(
            self._serial, time.time(), method, path, key_digest, model, content_digest, in_flight
        )
        self._put_lazily(arrival)
        return self._serial

    async def settle(self, settlement: Settlement) -> None:
        """Return once the row is committed. Raises LedgerError when it could not be."""
        await self._put(settlement)

    def deliver(self, serial: int) -> None:
        """Mark a row as delivered. Committed soon."""
        self._put_lazily(Delivery(serial))

    async def flush(self) -> None:
        """Return once all that was written down so far is committed. Raises LedgerError."""
        await self._put(None)

    async def close(self) -> None:
        """Commit what is waiting and end the thread. Raises LedgerError."""
        if self._closed:
            return
        try:
            await self.flush()
        finally:
            self._closed = True
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)

    def _put_lazily(self, item: Arrival | Delivery) -> None:
        if self._closed:
            raise LedgerError("the ledger is closed")
        self._lazy.append((item, None))
        if self._timer is None:
            self._timer = self._loop.call_later(_LAZY_S, self._hand_over)

    async def _put(self, item: Settlement | None) -> None:
        if self._closed:
            raise LedgerError("the ledger is closed")
        committed = self._loop.create_future()
        self._hand_over()
        self._queue.put((item, committed))
        await committed

    def _hand_over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for item in self._lazy:
            self._queue.put(item)
        self._lazy.clear()

    def _run(self) -> None:
        while (group := next_group(self._queue)) is not None:
            error = self._commit(group)
            waiting = [future for _, future in group if future is not None]
            if waiting:
                self._loop.call_soon_threadsafe(_resolve, waiting, error)
        self._database.close()

    def _commit(self, group: list[_Item]) -> sqlite3.Error | None:
        # A row's arrival, settlement and delivery come in this order, so doing kind after kind is right.
        items = [item for item, _ in group]
        kinds = ((_ARRIVE, Arrival), (_SETTLE, Settlement), (_DELIVER, Delivery))
        try:
            self._database.execute("BEGIN IMMEDIATE")
            for statement, kind in kinds:
                rows = [item._asdict() for item in items if isinstance(item, kind)]
                changed = self._database.executemany(statement, rows).rowcount if rows else 0
                if changed != len(rows):
                    raise sqlite3.IntegrityError("a row is missing: its arrival could not be written")
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            _log.error("%d changes of the ledger are lost: %s", len(group), error)
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            return error
        return None


def _resolve(waiting: list[asyncio.Future[None]], error: sqlite3.Error | None) -> None:
    for future in waiting:
        if future.done():
            continue  # whoever waited was cancelled
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(LedgerError(f"the ledger cannot be written: {error}"))
