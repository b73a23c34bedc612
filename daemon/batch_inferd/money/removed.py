"""What removed tasks have cost: `.costs.db` of a workspace, written before a task goes.

It has a row a task, by the task's uuid: a removal that is done again after a crash is kept once. Nothing
removes rows; whoever wants to forget the history removes the file, while no daemon runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from typing import TYPE_CHECKING, Any, NamedTuple

from batch_infer.protocol.errors import InputError
from batch_infer.protocol.text import Text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

_TABLE = (
    "CREATE TABLE IF NOT EXISTS removed "
    "(n INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, task_id TEXT NOT NULL, bill TEXT NOT NULL)"
)
_KEEP = "INSERT OR REPLACE INTO removed (uuid, task_id, bill) VALUES (?, ?, ?)"
_PAGE = "SELECT n, uuid, bill FROM removed WHERE n > ? ORDER BY n"
_BUSY_S = 10.0


class Page(NamedTuple):
    """Bills of removed tasks, and where the next page begins; None: there is none."""

    bills: list[dict[str, Any]]
    next: int | None


class RemovedCosts:
    """The file at `path`. Each method opens it anew, and blocks: call it in a thread."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def keep(self, uuid: str, bill: dict[str, Any]) -> None:
        """Store what a task has cost, durably. Raises sqlite3.Error, OSError."""
        if not os.path.lexists(self.path):
            os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o600))
        with self._open() as db:
            db.execute("PRAGMA synchronous = EXTRA")  # also the folder, when the rollback journal goes
            with db:
                db.execute(_TABLE)
                db.execute(_KEEP, (uuid, bill["task_id"], json.dumps(bill)))

    def page(self, after: int, most: int, size: int, living: Collection[str]) -> Page:
        """Bills behind row `after`: up to `most` of about `size` bytes, without tasks that are `living`.

        Raises InputError: the file cannot be read.
        """
        with self._reading() as db:
            bills: list[dict[str, Any]] = []
            for n, uuid, bill in db.execute(_PAGE, (after,)):
                if uuid not in living:
                    bills.append(json.loads(bill))
                    size -= len(bill)
                if len(bills) >= most or size <= 0:
                    return Page(bills, n)
            return Page(bills, None)

    def of(self, task_id: str, most: int) -> list[dict[str, Any]]:
        """The bills of the last tasks of that id that were removed. Raises InputError."""
        query = "SELECT bill FROM removed WHERE task_id = ? ORDER BY n DESC LIMIT ?"
        with self._reading() as db:
            return [json.loads(row[0]) for row in db.execute(query, (task_id, most))][::-1]

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self.path, timeout=_BUSY_S)) as db:
            yield db

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        if not os.path.exists(self.path):
            with contextlib.closing(sqlite3.connect(":memory:")) as db:
                db.execute(_TABLE)
                yield db
            return
        try:
            with self._open() as db:
                db.execute(_TABLE)  # a crash may have come before the first row
                yield db
        except (sqlite3.Error, ValueError) as error:
            words = {"path": str(self.path), "reason": str(error)}
            raise InputError(
                Text("the costs of removed tasks cannot be read from {path}: {reason}", words),
                hints=(Text("without this file -cost shows the other tasks; move it away"),),
            ) from error
