"""What both databases of the test service share: how they are opened, and how their threads take work."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import queue
    from pathlib import Path

T = TypeVar("T")


def open_database(path: Path, schema: str, version: int) -> sqlite3.Connection:
    """Open the database, or make it with the statements of `schema`; any thread may use the connection.

    Each commit is on the disk. Raises sqlite3.Error, also when it has another version, and OSError.
    """
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # SQLite gives its side files the same mode
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    found = database.execute("PRAGMA user_version").fetchone()[0]
    if found == 0:
        database.executescript(f"BEGIN IMMEDIATE; {schema}; PRAGMA user_version = {version}; COMMIT;")
    elif found != version:
        database.close()
        raise sqlite3.DatabaseError(f"its schema is {found}, this version knows {version}")
    return database


def next_group(waiting: queue.SimpleQueue[T | None]) -> list[T] | None:
    """All that waits, at least one item, which are waited for; None at the end, which a None stands for."""
    item = waiting.get()
    if item is None:
        return None
    group = [item]
    while not waiting.empty():
        item = waiting.get()
        if item is None:
            waiting.put(None)  # found again by the next call
            break
        group.append(item)
    return group


def select(path: Path, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """What a statement that only reads gives, from any process; nothing where no database is yet.

    Raises sqlite3.Error.
    """
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as database:
        if database.execute("PRAGMA user_version").fetchone()[0] == 0:
            return []  # the service is about to write the schema
        return database.execute(statement, values).fetchall()
