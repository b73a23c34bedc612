"""Submissions in task.db: upstream batches with their lines, and what they mean for the chunks.

A chunk of a task that runs as batches is derived from its lines: `ready` while it has open lines that no
live submission holds, `leased` while live submissions hold all of them, `done` when none is open. Open
lines that are to be finished by online calls wait until no batch line of their chunk is open.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from batch_inferd.store.taskdb import COLUMNS, COUNTED, ChunkRow, set_counts, set_facts_in

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from batch_inferd.store.taskdb import TaskDB

CLOSED = ("collected", "refused", "dropped")  # states that are the end of a submission
ONLINE = "online"

Ranges = list[tuple[int, int]]  # input lines, first and last inclusive, ascending
Lines = dict[int, Ranges]  # chunk -> its lines


class SubmissionRow(NamedTuple):
    """A row of `submissions`; `detail` is JSON of `batches.submission.Detail`."""

    id: int
    token: str
    state: str
    upstream_id: str | None
    input_ref: str | None
    created: float
    updated: float
    detail: dict[str, Any]


class NewSubmission(NamedTuple):
    """A packed file that waits to be uploaded."""

    token: str
    detail: dict[str, Any]
    lines: Lines


class ChunkEnd(NamedTuple):
    """What a job found of a chunk: its counts, all open records, and those of them that go online."""

    chunk: int
    counts: dict[str, int]
    open: int
    online: int


class Change(NamedTuple):
    """A chunk before and after a commit."""

    before: ChunkRow
    after: ChunkRow


_ROW = "id, token, state, upstream_id, input_file_id, created, updated, detail"


class SubmissionStore:
    """Statements on submissions. Each method is one transaction. All raise sqlite3.Error."""

    def __init__(self, db: TaskDB) -> None:
        self._db = db

    async def open(self) -> list[tuple[SubmissionRow, Lines]]:
        """All submissions that have not ended, with their lines."""

        def work(db: sqlite3.Connection) -> list[tuple[SubmissionRow, Lines]]:
            query = f"SELECT {_ROW} FROM submissions WHERE state NOT IN {CLOSED} ORDER BY id"  # noqa: S608
            return [(row, _lines(db, row.id)) for row in map(_row, db.execute(query).fetchall())]

        return await self._db.read(work)

    async def page(self, before: int | None, limit: int) -> list[tuple[SubmissionRow, list[int], int]]:
        """Up to `limit` submissions below id `before`, newest first; their first chunks, and how many."""

        def work(db: sqlite3.Connection) -> list[tuple[SubmissionRow, list[int], int]]:
            query = f"SELECT {_ROW} FROM submissions WHERE id < ? ORDER BY id DESC LIMIT ?"  # noqa: S608
            found = []
            for row in map(_row, db.execute(query, (before or 2**62, limit)).fetchall()):
                chunks = "SELECT chunk FROM submission_lines WHERE submission = ? ORDER BY chunk LIMIT 20"
                count = "SELECT count(*) FROM submission_lines WHERE submission = ?"
                found.append(
                    (
                        row,
                        [n for (n,) in db.execute(chunks, (row.id,))],
                        int(db.execute(count, (row.id,)).fetchone()[0]),
                    )
                )
            return found

        return await self._db.read(work)

    async def first(self, limit: int) -> list[SubmissionRow]:
        """Up to `limit` submissions, by number."""

        def work(db: sqlite3.Connection) -> list[SubmissionRow]:
            query = f"SELECT {_ROW} FROM submissions ORDER BY id LIMIT ?"  # noqa: S608
            return [_row(row) for row in db.execute(query, (limit,))]

        return await self._db.read(work)

    async def totals(self) -> dict[str, int]:
        """How many submissions there are by state, for the report and the summary."""

        def work(db: sqlite3.Connection) -> dict[str, int]:
            return dict(db.execute("SELECT state, count(*) FROM submissions GROUP BY state"))

        return await self._db.read(work)

    async def results(self) -> dict[str, int]:
        """Sums over all collected submissions: answers, and what their files held besides."""
        names = ("answered", "unknown", "duplicate", "unreadable")

        def work(db: sqlite3.Connection) -> dict[str, int]:
            sums = ", ".join(f"coalesce(sum(json_extract(detail, '$.results.{name}')), 0)" for name in names)
            return dict(zip(names, db.execute(f"SELECT {sums} FROM submissions").fetchone(), strict=True))  # noqa: S608

        return await self._db.read(work)

    async def charged(self) -> int:
        """What all that are closed have cost, in nano units, as far as they had a budget."""

        def work(db: sqlite3.Connection) -> int:
            query = (
                "SELECT coalesce(sum(json_extract(detail, '$.charged')), 0) FROM submissions "  # noqa: S608
                f"WHERE state IN {CLOSED}"
            )
            return int(db.execute(query).fetchone()[0])

        return await self._db.read(work)

    async def refusals(self, family: int) -> int:
        """How many submissions of a family (halves of halves of one) were refused."""

        def work(db: sqlite3.Connection) -> int:
            query = (
                "SELECT count(*) FROM submissions WHERE state = 'refused' "
                "AND json_extract(detail, '$.family') = ?"
            )
            return int(db.execute(query, (family,)).fetchone()[0])

        return await self._db.read(work)

    async def to_pack(self, limit: int, *, left_over: bool) -> list[ChunkRow]:
        """Chunks with lines to pack, in order: those never packed, or those that were left over."""

        def work(db: sqlite3.Connection) -> list[ChunkRow]:
            since = "since IS NOT NULL" if left_over else "since IS NULL"
            query = (
                f"SELECT {COLUMNS} FROM chunks INDEXED BY chunks_open WHERE state <> 'done' "  # noqa: S608
                f"AND state = 'ready' AND path = '' AND {since} ORDER BY n LIMIT ?"
            )
            return [ChunkRow(*row) for row in db.execute(query, (limit,))]

        return await self._db.read(work)

    async def set_apart(self) -> set[int]:
        """Ready chunks that are not fresh: left over by submissions, or to be finished online."""

        def work(db: sqlite3.Connection) -> set[int]:
            query = (
                "SELECT n FROM chunks INDEXED BY chunks_open WHERE state <> 'done' AND state = 'ready' "
                "AND (since IS NOT NULL OR path <> '')"
            )
            return {n for (n,) in db.execute(query)}

        return await self._db.read(work)

    async def uploads_left(self) -> list[tuple[int, str]]:
        """Closed submissions whose upload is still at the provider, with its reference."""

        def work(db: sqlite3.Connection) -> list[tuple[int, str]]:
            query = (
                f"SELECT id, input_file_id FROM submissions WHERE state IN {CLOSED} "  # noqa: S608
                "AND input_file_id IS NOT NULL AND json_extract(detail, '$.upload_left') "
                "ORDER BY id LIMIT 10000"
            )
            return db.execute(query).fetchall()

        return await self._db.read(work)

    async def upload_deleted(self, submission: int) -> None:
        """The upload of a closed submission is gone."""
        query = (
            "UPDATE submissions SET detail = json_set(detail, '$.upload_left', json('false')) WHERE id = ?"
        )
        await self._db.write(lambda db: db.execute(query, (submission,)))

    async def live_lines(self, chunks: Iterable[int]) -> Lines:
        """The lines of these chunks that live submissions hold."""

        def work(db: sqlite3.Connection) -> Lines:
            found: Lines = {}
            query = (
                "SELECT ranges FROM submission_lines JOIN submissions ON submissions.id = submission "  # noqa: S608
                f"WHERE chunk = ? AND state NOT IN {CLOSED}"
            )
            for chunk in chunks:
                for (ranges,) in db.execute(query, (chunk,)):
                    found.setdefault(chunk, []).extend(_ranges(ranges))
            return {chunk: sorted(ranges) for chunk, ranges in found.items()}

        return await self._db.read(work)

    async def chunks(self, numbers: Iterable[int]) -> list[ChunkRow]:
        """Some chunks, in order."""

        def work(db: sqlite3.Connection) -> list[ChunkRow]:
            return [_chunk(db, n) for n in sorted(numbers)]

        return await self._db.read(work)

    # commits

    async def add(
        self, new: Sequence[NewSubmission], ends: Iterable[ChunkEnd], now: float
    ) -> tuple[list[int], list[Change]]:
        """Packed files became submissions, and what their packing found of the chunks."""

        def work(db: sqlite3.Connection) -> tuple[list[int], list[Change]]:
            ids = []
            for submission in new:
                cursor = db.execute(
                    "INSERT INTO submissions (token, state, created, updated, detail) "
                    "VALUES (?, 'packed', ?, ?, ?)",
                    (submission.token, now, now, json.dumps(submission.detail)),
                )
                ids.append(int(cursor.lastrowid or 0))
                for chunk, ranges in submission.lines.items():
                    db.execute(
                        "INSERT INTO submission_lines (submission, chunk, ranges) VALUES (?, ?, ?)",
                        (ids[-1], chunk, json.dumps(ranges)),
                    )
                    db.execute(
                        "UPDATE chunks SET packed = packed + ? WHERE n = ?", (count_lines(ranges), chunk)
                    )
            return ids, [_end(db, end, now) for end in ends]

        done: tuple[list[int], list[Change]] = await self._db.write(work)
        return done

    async def update(
        self,
        submission: int,
        *,
        token: str,
        state: str,
        upstream_id: str | None,
        input_ref: str | None,
        detail: dict[str, Any],
        now: float,
    ) -> None:
        """Store where a submission that goes on stands."""
        values = (token, state, upstream_id, input_ref, now, json.dumps(detail), submission)
        await self._db.write(lambda db: _update(db, values))

    async def close(
        self,
        submission: int,
        *,
        token: str,
        state: str,
        upstream_id: str | None,
        input_ref: str | None,
        detail: dict[str, Any],
        lines: Lines,
        ends: Iterable[ChunkEnd],
        now: float,
    ) -> list[Change]:
        """A submission has ended: its lines are free, and its chunks are what its collecting found.

        Chunks of `lines` without an entry in `ends` keep their counts.
        """
        found = {end.chunk: end for end in ends}

        def work(db: sqlite3.Connection) -> list[Change]:
            _update(db, (token, state, upstream_id, input_ref, now, json.dumps(detail), submission))
            changes = []
            for chunk, ranges in lines.items():
                db.execute(
                    "UPDATE chunks SET packed = max(0, packed - ?) WHERE n = ?", (count_lines(ranges), chunk)
                )
                row = _chunk(db, chunk)
                counts = {name: getattr(row, name) for name in COUNTED}
                changes.append(_end(db, found.get(chunk, ChunkEnd(chunk, counts, row.open, 0)), now))
            return changes

        done: list[Change] = await self._db.write(work)
        return done

    async def reopen(self, chunks: Iterable[int], **facts: Any) -> None:
        """A cancelled task gets late results: the chunks that they belong to are open again."""

        def work(db: sqlite3.Connection) -> None:
            for chunk in chunks:
                db.execute("UPDATE chunks SET state = 'leased' WHERE n = ?", (chunk,))
            set_facts_in(db, facts)

        await self._db.write(work)


def count_lines(ranges: Iterable[tuple[int, int]]) -> int:
    """How many lines the ranges hold."""
    return sum(last - first + 1 for first, last in ranges)


def _end(db: sqlite3.Connection, end: ChunkEnd, now: float) -> Change:
    """Store what was found of a chunk, and derive its state."""
    before = _chunk(db, end.chunk)
    set_counts(db, end.chunk, end.counts)
    left = end.open - end.online - before.packed
    if left > 0:
        state, path, since = "ready", "", before.since if before.since is not None else now
    elif before.packed > 0:
        state, path, since = "leased", "", None
    elif end.online > 0:
        state, path, since = "ready", ONLINE, now
    else:
        state, path, since = "done", "", None
    db.execute(
        "UPDATE chunks SET state = ?, path = ?, since = ? WHERE n = ?", (state, path, since, end.chunk)
    )
    return Change(before, _chunk(db, end.chunk))


def _update(db: sqlite3.Connection, values: tuple[Any, ...]) -> None:
    db.execute(
        "UPDATE submissions SET token = ?, state = ?, upstream_id = ?, input_file_id = ?, updated = ?, "
        "detail = ? WHERE id = ?",
        values,
    )


def _chunk(db: sqlite3.Connection, n: int) -> ChunkRow:
    return ChunkRow(*db.execute(f"SELECT {COLUMNS} FROM chunks WHERE n = ?", (n,)).fetchone())  # noqa: S608


def _row(row: tuple[Any, ...]) -> SubmissionRow:
    return SubmissionRow._make((*row[:-1], json.loads(row[-1])))


def _lines(db: sqlite3.Connection, submission: int) -> Lines:
    query = "SELECT chunk, ranges FROM submission_lines WHERE submission = ? ORDER BY chunk"
    return {chunk: _ranges(ranges) for chunk, ranges in db.execute(query, (submission,))}


def _ranges(text: str) -> Ranges:
    return [(int(first), int(last)) for first, last in json.loads(text)]
