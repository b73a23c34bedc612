"""task.db of one task: opening it safely, and every statement that runs on it."""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
import sqlite3
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from batch_infer.protocol.text import Text
from batch_inferd.store.migrations import MIGRATIONS, SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from batch_inferd.store.writer import StoreWriter, T

NAME = "task.db"


class Damaged(Exception):  # noqa: N818  said of the database
    """The database cannot be used; `copy` is where a copy of it stands, None where none was made."""

    def __init__(self, why: Text, copy: Path | None) -> None:
        super().__init__(str(why))
        self.why = why
        self.copy = copy


class Closed(sqlite3.ProgrammingError):
    """The task was closed or forgotten meanwhile: there is nothing to write to any more."""


class ChunkRow(NamedTuple):
    """A row of `chunks`; counts are those of the current round as last reported.

    `packed`, `since` and `path` belong to tasks that run as batches, see `store.submissions`; `opened` is
    the `-retry` round that opened it last. `tokens_cached` are among `tokens_in`, as are those of answers
    that batches brought (`batch_in`, of which `batch_cached` were cached; `batch_out` likewise).
    """

    n: int
    first_line: int
    lines: int
    offset: int
    bytes: int
    records: int
    blank: int
    chain: str
    state: str
    answered: int
    error: int
    missing: int
    retries: int
    tokens_in: int
    tokens_out: int
    tokens_unknown: int
    packed: int = 0
    since: float | None = None
    path: str = ""
    opened: int = 0
    tokens_cached: int = 0
    batch_in: int = 0
    batch_out: int = 0
    batch_cached: int = 0

    @property
    def open(self) -> int:
        """Records that have not ended."""
        return self.records - self.answered - self.error - self.missing


class Totals(NamedTuple):
    """Sums over chunks of one state."""

    chunks: int
    lines: int
    records: int
    blank: int
    answered: int
    error: int
    missing: int
    retries: int
    tokens_in: int
    tokens_out: int
    tokens_unknown: int
    tokens_cached: int
    batch_in: int
    batch_out: int
    batch_cached: int


COLUMNS = ", ".join(ChunkRow._fields)
# Written out, so that the partial index of open chunks is used: they are few among the done ones.
_WHERE = {
    state: f"INDEXED BY chunks_open WHERE state <> 'done' AND state = '{state}' AND"
    for state in ("ready", "leased")
}
_LAST = 2**62  # beyond every chunk's number
USAGE = (
    *("tokens_in", "tokens_out", "tokens_unknown", "tokens_cached"),
    *("batch_in", "batch_out", "batch_cached"),
)
COUNTED = ("answered", "error", "missing", "retries", *USAGE)  # what is kept of a chunk's outcomes


class TaskDB:
    """All methods run in the writer's thread and return after their commit."""

    def __init__(self, writer: StoreWriter, connection: sqlite3.Connection) -> None:
        self._writer = writer
        self._connection = connection
        self._closed = False

    @classmethod
    async def open(cls, writer: StoreWriter, folder: Path) -> TaskDB:
        """Open or make `folder/task.db`. Raises Damaged, sqlite3.Error."""
        return cls(writer, await writer.call(lambda: _open(folder / NAME)))

    async def close(self) -> None:
        """Give the file back (and fold the WAL into it); a second time does nothing."""
        if not self._closed:
            self._closed = True
            await self._writer.call(self._connection.close)

    def write(self, work: Callable[[sqlite3.Connection], T]) -> Any:
        """Await the result of `work` in a transaction of the store's thread. Raises sqlite3.Error."""
        if self._closed:
            raise Closed("the task is closed")
        return self._writer.write(self._connection, work)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The result of `work`, which only reads. Raises sqlite3.Error.

        Reading takes no part in a transaction: a write that fails for a full disk does not touch it.
        """
        if self._closed:
            raise Closed("the task is closed")
        return await self._writer.call(lambda: work(self._connection))

    # facts

    async def facts(self) -> dict[str, Any]:
        """All facts of the task."""

        def work(db: sqlite3.Connection) -> dict[str, Any]:
            return {key: json.loads(value) for key, value in db.execute("SELECT key, value FROM facts")}

        return await self.read(work)

    async def set_facts(self, **facts: Any) -> None:
        """Store facts, all or none."""
        await self.write(lambda db: set_facts_in(db, facts))

    # chunks

    async def add_chunks(self, rows: Iterable[ChunkRow], **facts: Any) -> None:
        """Commit newly cut chunks together with the facts that say how far the cutting is."""
        rows = list(rows)

        def work(db: sqlite3.Connection) -> None:
            marks = ", ".join("?" * len(ChunkRow._fields))
            db.executemany(f"INSERT INTO chunks ({COLUMNS}) VALUES ({marks})", rows)  # noqa: S608  constants
            set_facts_in(db, facts)

        await self.write(work)

    async def page(
        self, after: int, limit: int, state: str | None = None, path: str | None = None
    ) -> list[ChunkRow]:
        """Up to `limit` chunks with n > `after`, in order, of one state or of all, of one path or of all."""
        where = "WHERE" if state is None else _WHERE[state]
        same = "" if path is None else "AND path = :path"

        def work(db: sqlite3.Connection) -> list[ChunkRow]:
            query = f"SELECT {COLUMNS} FROM chunks {where} n > :after {same} ORDER BY n LIMIT :limit"  # noqa: S608
            values = {"after": after, "limit": limit, "path": path}
            return [ChunkRow(*row) for row in db.execute(query, values)]

        return await self.read(work)

    async def totals(self) -> dict[str, Totals]:
        """Sums by state."""

        def work(db: sqlite3.Connection) -> dict[str, Totals]:
            sums = ", ".join(f"sum({name})" for name in Totals._fields[1:])
            query = f"SELECT state, count(*), {sums} FROM chunks GROUP BY state"  # noqa: S608
            return {row[0]: Totals(*row[1:]) for row in db.execute(query)}

        return await self.read(work)

    async def pages_all(self, size: int = 1000) -> list[ChunkRow]:
        """Every chunk; only for what already holds one object a chunk."""
        rows: list[ChunkRow] = []
        while page := await self.page(rows[-1].n if rows else 0, size):
            rows.extend(page)
        return rows

    async def spending(self) -> list[tuple[str, dict[str, int]]]:
        """Answers and tokens by the local day on which they were committed, in order of days."""

        def work(db: sqlite3.Connection) -> list[tuple[str, dict[str, int]]]:
            names = ("answered", *USAGE)
            query = f"SELECT day, {', '.join(names)} FROM spending ORDER BY day"  # noqa: S608  constants
            return [(str(row[0]), dict(zip(names, row[1:], strict=True))) for row in db.execute(query)]

        return await self.read(work)

    # leases

    async def grant(self, lease: str, chunk: int, worker: str, now: float) -> bool:
        """Commit that `worker` may run `chunk`; whether nobody was ever granted it before.

        Raises sqlite3.IntegrityError unless it was ready.
        """

        def work(db: sqlite3.Connection) -> bool:
            done = db.execute("UPDATE chunks SET state = 'leased' WHERE n = ? AND state = 'ready'", (chunk,))
            if done.rowcount != 1:
                raise sqlite3.IntegrityError(f"chunk {chunk} is not ready")
            first = db.execute("SELECT 1 FROM leases WHERE chunk = ? LIMIT 1", (chunk,)).fetchone() is None
            db.execute(
                "INSERT INTO leases (lease, chunk, worker, granted) VALUES (?, ?, ?, ?)",
                (lease, chunk, worker, now),
            )
            return first

        first: bool = await self.write(work)
        return first

    async def end_lease(
        self, lease: str, chunk: int, state: str, outcome: str, counts: dict[str, int] | None, now: float
    ) -> None:
        """Commit a lease's end: the chunk becomes `done` or `ready` again, with its newest counts."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("UPDATE chunks SET state = ? WHERE n = ?", (state, chunk))
            if counts is not None:
                set_counts(db, chunk, counts)
            db.execute("UPDATE leases SET ended = ?, outcome = ? WHERE lease = ?", (now, outcome, lease))

        await self.write(work)

    async def leased_chunks(self) -> list[int]:
        """The chunks that some lease holds; chunks in live submissions are `leased` without one."""

        def work(db: sqlite3.Connection) -> list[int]:
            query = "SELECT DISTINCT chunk FROM leases WHERE ended IS NULL ORDER BY chunk"
            return [row[0] for row in db.execute(query)]

        return await self.read(work)

    async def workers_of(self, chunk: int) -> dict[str, str]:
        """The worker of each lease that a chunk was ever given under."""

        def work(db: sqlite3.Connection) -> dict[str, str]:
            return dict(db.execute("SELECT lease, worker FROM leases WHERE chunk = ?", (chunk,)).fetchall())

        return await self.read(work)

    async def end_all_leases(self, now: float, counts: dict[int, dict[str, int]]) -> None:
        """What a starting daemon does, once no worker lives: every chunk under a lease is ready again.

        `counts` has what the journals of those chunks say.
        """

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE chunks SET state = 'ready' WHERE state = 'leased' "
                "AND n IN (SELECT chunk FROM leases WHERE ended IS NULL)"
            )
            for chunk, found in counts.items():
                set_counts(db, chunk, found)
            db.execute("UPDATE leases SET ended = ?, outcome = 'lost' WHERE ended IS NULL", (now,))

        await self.write(work)

    async def finish_chunk(self, chunk: int, counts: dict[str, int]) -> None:
        """Commit a chunk as done without a lease: a cancelled task closes its open records so."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("UPDATE chunks SET state = 'done' WHERE n = ?", (chunk,))
            set_counts(db, chunk, counts)

        await self.write(work)

    async def reopen(self, chunks: list[int], round_number: int, **facts: Any) -> None:
        """Make some chunks ready again, whose journals do not add up: their gaps are done again."""

        def work(db: sqlite3.Connection) -> None:
            query = "UPDATE chunks SET state = 'ready', opened = ? WHERE n = ?"
            db.executemany(query, [(round_number, n) for n in chunks])
            set_facts_in(db, facts)

        await self.write(work)

    async def reopen_failed(
        self, round_number: int, ranges: Sequence[tuple[int, int]] | None = None, **facts: Any
    ) -> int:
        """`-retry`: chunks with failed or missing records are ready again. Returns those records.

        `ranges` chooses among the chunks: (first, last), inclusive; None is all.
        """

        def work(db: sqlite3.Connection) -> int:
            count = 0
            for first, last in [(1, _LAST)] if ranges is None else ranges:
                chosen = "state = 'done' AND error + missing > 0 AND n BETWEEN ? AND ?"
                query = f"SELECT coalesce(sum(error + missing), 0) FROM chunks WHERE {chosen}"  # noqa: S608
                count += db.execute(query, (first, last)).fetchone()[0]
                db.execute(
                    "UPDATE chunks SET state = 'ready', error = 0, missing = 0, since = NULL, path = '', "  # noqa: S608
                    f"opened = ? WHERE {chosen}",
                    (round_number, first, last),
                )
            if count:
                set_facts_in(db, {**facts, "round": round_number})
            return int(count)

        return int(await self.write(work))

    async def reopen_some(
        self, round_number: int, chunks: Sequence[tuple[int, int, int, int]], **facts: Any
    ) -> None:
        """`-retry` of some records: (chunk, answered, errors, missing), which stay as they are."""

        def work(db: sqlite3.Connection) -> None:
            query = (
                "UPDATE chunks SET state = 'ready', answered = ?, error = ?, missing = ?, since = NULL, "
                "path = '', opened = ? WHERE n = ?"
            )
            db.executemany(query, ((*stay, round_number, n) for n, *stay in chunks))
            set_facts_in(db, {**facts, "round": round_number})

        await self.write(work)

    # publications

    async def commit_publication(self, generation: int, files: dict[str, Any], now: float) -> None:
        """Commit what is staged and about to be renamed."""
        await self.write(
            lambda db: db.execute(
                "INSERT OR REPLACE INTO publications (generation, files, committed) VALUES (?, ?, ?)",
                (generation, json.dumps(files), now),
            )
        )

    async def open_publication(self) -> tuple[int, dict[str, Any]] | None:
        """The publication that was committed and not finished: its renames must be done again."""

        def work(db: sqlite3.Connection) -> tuple[int, dict[str, Any]] | None:
            query = "SELECT generation, files FROM publications WHERE done IS NULL ORDER BY generation DESC"
            row = db.execute(query).fetchone()
            return (row[0], json.loads(row[1])) if row else None

        return await self.read(work)

    async def last_publication(self) -> tuple[int, dict[str, Any]] | None:
        """The newest publication that was finished: its generation, and what was committed with it."""

        def work(db: sqlite3.Connection) -> tuple[int, dict[str, Any]] | None:
            done = "done IS NOT NULL ORDER BY generation DESC LIMIT 1"
            query = f"SELECT generation, files FROM publications WHERE {done}"  # noqa: S608  constants
            row = db.execute(query).fetchone()
            return (row[0], json.loads(row[1])) if row else None

        return await self.read(work)

    async def mend_publication(self, generation: int, files: dict[str, Any]) -> None:
        """Commit what a finished publication consists of now."""
        query = "UPDATE publications SET files = ? WHERE generation = ?"
        await self.write(lambda db: db.execute(query, (json.dumps(files), generation)))

    async def drop_publication(self, generation: int) -> None:
        """Forget a committed publication whose stage is lost: the outputs will be merged again."""
        query = "DELETE FROM publications WHERE generation = ?"
        await self.write(lambda db: db.execute(query, (generation,)))

    async def finish_publication(self, generation: int, now: float, facts: dict[str, Any]) -> None:
        """Commit that all renames are done, together with the task's end state."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("UPDATE publications SET done = ? WHERE generation = ?", (now, generation))
            set_facts_in(db, facts)

        await self.write(work)


def set_facts_in(db: sqlite3.Connection, facts: dict[str, Any]) -> None:
    """Store facts inside a transaction."""
    db.executemany(
        "INSERT INTO facts (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        [(key, json.dumps(value)) for key, value in facts.items()],
    )


def set_counts(db: sqlite3.Connection, chunk: int, counts: dict[str, int]) -> None:
    """Store a chunk's counts inside a transaction."""
    sets = ", ".join(f"{name} = ?" for name in COUNTED)
    values = [int(counts.get(name, 0)) for name in COUNTED]
    db.execute(f"UPDATE chunks SET {sets} WHERE n = ?", (*values, chunk))  # noqa: S608  constants


def _open(path: Path) -> sqlite3.Connection:
    fresh = not path.exists()
    if fresh:
        path.touch(mode=0o600, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            connection.execute("PRAGMA journal_mode = TRUNCATE")  # a file system that refuses WAL
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        _bring_up_to_date(connection, path, fresh=fresh)
    except sqlite3.DatabaseError as error:
        connection.close()
        if _is_damage(error):
            raise Damaged(Text("SQLite says: {error}", {"error": str(error)}), _keep_copy(path)) from error
        raise
    except Damaged:
        connection.close()
        raise
    return connection


def _bring_up_to_date(connection: sqlite3.Connection, path: Path, *, fresh: bool) -> None:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        text = Text(
            "it was written by a newer version (schema {found}, known are up to {known})",
            {"found": version, "known": SCHEMA_VERSION},
        )
        raise Damaged(text, None)
    if not fresh:
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            text = Text("its integrity check says: {verdict}", {"verdict": verdict})
            raise Damaged(text, _keep_copy(path))
    for number in range(version, SCHEMA_VERSION):
        script = f"BEGIN IMMEDIATE; {MIGRATIONS[number]}; PRAGMA user_version = {number + 1}; COMMIT;"
        connection.executescript(script)


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _keep_copy(path: Path) -> Path | None:
    """A copy beside it, made once for each content seen, so that nothing is lost by later repairs."""
    copy = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d')}")
    with contextlib.suppress(OSError):
        if not copy.exists():
            shutil.copy2(path, copy)
            wal = path.with_name(f"{path.name}-wal")
            if wal.exists():
                shutil.copy2(wal, copy.with_name(f"{copy.name}-wal"))
        return copy
    return None


def disk_errno(error: BaseException) -> int | None:
    """The errno that an SQLite or OS error stands for: ENOSPC for a full disk, EIO for a sick one."""
    if isinstance(error, OSError):
        return error.errno
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            return errno.ENOSPC
        if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            return errno.EIO
    return None
