"""What is done with the table of files. All functions run in the store's thread."""

from __future__ import annotations

import secrets
import uuid
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlite3


class File(NamedTuple):
    """A file: an upload, or the results of a batch. Its bytes are in files/<id>."""

    seq: int  # in the order of their making; 0: not written yet
    id: str
    purpose: str
    filename: str
    bytes: int
    sha256: str | None  # of uploads
    created: float  # seconds since 1970, as all times
    expires: float | None = None
    deleted: float | None = None


_COLUMNS = ", ".join(File._fields)
_NEW = f"({', '.join(File._fields[1:])}) VALUES ({', '.join('?' * (len(File._fields) - 1))})"
_THERE = "deleted IS NULL AND (expires IS NULL OR expires > ?)"


def new_file_id(*, as_uuid: bool = False) -> str:
    """An id that nobody has."""
    return str(uuid.uuid4()) if as_uuid else f"file-{secrets.token_hex(12)}"


def add_file(database: sqlite3.Connection, file: File) -> None:
    """Write down a file whose bytes are in place."""
    database.execute(f"INSERT INTO files {_NEW}", file[1:])


def find_file(database: sqlite3.Connection, file_id: str, now: float) -> File | None:
    """A file that is neither deleted nor expired."""
    query = f"SELECT {_COLUMNS} FROM files WHERE id = ? AND {_THERE}"  # noqa: S608  no input
    row = database.execute(query, (file_id, now)).fetchone()
    return None if row is None else File._make(row)


def list_files(
    database: sqlite3.Connection,
    now: float,
    *,
    before: int | None,
    limit: int,
    purpose: str | None,
    oldest: bool,
) -> list[File]:
    """A page of files, newest first unless told, from the one after `before` on."""
    order, side = ("ASC", ">") if oldest else ("DESC", "<")
    query = (
        f"SELECT {_COLUMNS} FROM files WHERE {_THERE} AND (:before IS NULL OR seq {side} :before)"  # noqa: S608
        f" AND (:purpose IS NULL OR purpose = :purpose) ORDER BY seq {order} LIMIT :limit"
    ).replace("?", ":now")
    values = {"now": now, "before": before, "purpose": purpose, "limit": limit}
    return [File._make(row) for row in database.execute(query, values)]


def delete_file(database: sqlite3.Connection, file_id: str, now: float) -> bool:
    """Delete a file; whether its bytes can go too. A batch that is worked on still needs its input."""
    database.execute("UPDATE files SET deleted = ? WHERE id = ?", (now, file_id))
    query = "SELECT 1 FROM batches WHERE input_file = ? AND ended IS NULL"
    return database.execute(query, (file_id,)).fetchone() is None


def is_deleted(database: sqlite3.Connection, file_id: str) -> bool:
    """Whether a file was deleted, so that the last batch that needs it removes its bytes."""
    query = "SELECT 1 FROM files WHERE id = ? AND deleted IS NOT NULL"
    return database.execute(query, (file_id,)).fetchone() is not None
