"""What is done with the tables of batches and their lines. All functions run in the store's thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import sqlite3

FINAL = frozenset({"completed", "failed", "expired", "cancelled"})


class Batch(NamedTuple):
    """A batch as it is now. Files: input in files/<input_file>, results grow in files/<…_ref>.part."""

    seq: int  # in the order of their making; 0: not written yet
    id: str
    created: float  # seconds since 1970 by the service's clock, as all times
    expires: float
    latency: float  # seconds from creation to end
    endpoint: str
    window: str
    metadata: str | None  # JSON
    token: str | None
    input_file: str
    input_sha256: str
    input_bytes: int
    outcome: str  # what its controls have in mind for it
    controls: str  # JSON: those of its creation
    output_ref: str  # ids that its result files will have
    error_ref: str
    state: str  # OpenAI's word, or "created": before `validating`
    model: str | None = None
    lines: int | None = None  # requests in it; None until the validation is over, as the tokens
    tokens: int | None = None
    done: int = 0  # requests worked on, one after the other
    done_line: int = 0  # lines of the file read for them, blank ones too
    done_bytes: int = 0
    completed: int = 0
    failed: int = 0
    output_bytes: int = 0  # as much of the result files counts
    error_bytes: int = 0
    output_file: str | None = None
    error_file: str | None = None
    in_progress_at: float | None = None
    finalizing_at: float | None = None
    completed_at: float | None = None
    failed_at: float | None = None
    expired_at: float | None = None
    cancelling_at: float | None = None
    cancelled_at: float | None = None
    ended: float | None = None


class Listed(NamedTuple):
    """A line as it stands in its file."""

    line: int
    custom_id: str | None
    digest: bytes | None


class Billed(NamedTuple):
    """What a line costs, in tokens."""

    tokens_in: int
    tokens_out: int
    line: int


_COLUMNS = ", ".join(Batch._fields)
_NEW = f"({', '.join(Batch._fields[1:])}) VALUES ({', '.join('?' * (len(Batch._fields) - 1))})"
_STATE_TIMES = frozenset(name for name in Batch._fields if name.endswith("_at"))


def add_batch(database: sqlite3.Connection, batch: Batch) -> Batch:
    """Write down a new batch; it with its number."""
    query = f"INSERT INTO batches {_NEW}"
    return batch._replace(seq=database.execute(query, batch[1:]).lastrowid or 0)


def find_batch(database: sqlite3.Connection, batch_id: str) -> Batch | None:
    """A batch by its id."""
    query = f"SELECT {_COLUMNS} FROM batches WHERE id = ?"  # noqa: S608  no input
    row = database.execute(query, (batch_id,)).fetchone()
    return None if row is None else Batch._make(row)


def problems_of(database: sqlite3.Connection, batch: Batch) -> str | None:
    """The `errors.data` of a batch that failed, as JSON."""
    if batch.state != "failed":
        return None
    row = database.execute("SELECT problems FROM batches WHERE seq = ?", (batch.seq,)).fetchone()
    return None if row is None else row[0]


def live_batches(database: sqlite3.Connection) -> list[Batch]:
    """Those that have not ended, oldest first."""
    query = f"SELECT {_COLUMNS} FROM batches WHERE ended IS NULL ORDER BY seq"  # noqa: S608  no input
    return [Batch._make(row) for row in database.execute(query)]


def count_live(database: sqlite3.Connection) -> int:
    """How many have not ended."""
    count: int = database.execute("SELECT COUNT(*) FROM batches WHERE ended IS NULL").fetchone()[0]
    return count


def list_batches(
    database: sqlite3.Connection, *, before: int | None, created_by: float, limit: int
) -> list[Batch]:
    """A page of batches, newest first, from the one after `before` on."""
    query = (
        f"SELECT {_COLUMNS} FROM batches WHERE (:before IS NULL OR seq < :before)"  # noqa: S608  no input
        " AND created <= :created_by ORDER BY seq DESC LIMIT :limit"
    )
    values = {"before": before, "created_by": created_by, "limit": limit}
    return [Batch._make(row) for row in database.execute(query, values)]


def enqueued_tokens(database: sqlite3.Connection, batch: Batch) -> int:
    """Input tokens of the other live batches."""
    query = "SELECT TOTAL(tokens) FROM batches WHERE ended IS NULL AND seq <> ?"
    return int(database.execute(query, (batch.seq,)).fetchone()[0])


def change(database: sqlite3.Connection, batch: Batch, **columns: Any) -> bool:
    """Write columns of a batch that is still in the state of `batch`; whether it is."""
    names = ", ".join(f"{name} = ?" for name in columns)
    query = f"UPDATE batches SET {names} WHERE seq = ? AND state = ?"  # noqa: S608  no input
    return database.execute(query, (*columns.values(), batch.seq, batch.state)).rowcount == 1


def enter(database: sqlite3.Connection, batch: Batch, state: str, now: float, **columns: Any) -> bool:
    """As `change`, into another state, whose time is written down."""
    if f"{state}_at" in _STATE_TIMES:
        columns[f"{state}_at"] = now
    if state in FINAL:
        columns["ended"] = now
    return change(database, batch, state=state, **columns)


def forget_lines(database: sqlite3.Connection, batch: Batch) -> None:
    """The file will be read again from its beginning."""
    database.execute("DELETE FROM lines WHERE batch = ?", (batch.seq,))


def add_lines(database: sqlite3.Connection, batch: Batch, lines: list[Listed]) -> None:
    """Write down what stands in the file."""
    database.executemany(
        f"INSERT INTO lines (batch, line, custom_id, digest) VALUES ({batch.seq:d}, ?, ?, ?)",  # noqa: S608
        lines,
    )


def bill(database: sqlite3.Connection, batch: Batch, bills: list[Billed], **columns: Any) -> bool:
    """Write down what lines cost, and how far the batch is; whether it is still in the state of `batch`."""
    if not change(database, batch, **columns):
        return False
    database.executemany(
        f"UPDATE lines SET billed_in = ?, billed_out = ? WHERE batch = {batch.seq:d} AND line = ?",  # noqa: S608
        bills,
    )
    return True
