"""A table beside the memory: SQLite's private temporary file, which nobody sees and nobody has to remove."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CACHE_KIB = 16 * 1024
_ROWS = 5000  # that wait to be inserted together


class Rows:
    """Rows of integers on their way into a table, many at a time."""

    def __init__(self, db: sqlite3.Connection, table: str, columns: int) -> None:
        marks = ", ".join("?" * columns)
        self._db = db
        self._insert = f"INSERT INTO {table} VALUES ({marks})"  # noqa: S608  constants
        self._rows: list[tuple[int, ...]] = []

    def add(self, *row: int) -> None:
        """One row. Raises sqlite3.Error."""
        self._rows.append(row)
        if len(self._rows) >= _ROWS:
            self.flush()

    def flush(self) -> None:
        """Insert what waits."""
        self._db.executemany(self._insert, self._rows)
        self._rows.clear()


@contextmanager
def scratch() -> Iterator[sqlite3.Connection]:
    """A database of at most some megabytes of memory; the rest goes to the folder of temporary files.

    Use it in one thread. Raises sqlite3.Error.
    """
    with closing(sqlite3.connect("", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA temp_store = FILE")
        db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        db.execute("BEGIN")
        yield db
