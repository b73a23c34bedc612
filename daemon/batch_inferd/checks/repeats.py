"""Ids and lines that come twice, found in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.checks.findings import SHOWN, Noted
from batch_inferd.checks.scratch import Rows

if TYPE_CHECKING:
    import sqlite3

_OF_ID = "min(line) OVER (PARTITION BY id)"
_OF_LINE = "min(line) OVER (PARTITION BY digest)"


class Repeats(NamedTuple):
    """Lines whose id an earlier line has, and the earlier ones of those that are shown."""

    noted: Noted
    of: tuple[int, ...]


class RepeatFinder:
    """Takes line after line, and knows in the end which came again."""

    def __init__(self, db: sqlite3.Connection) -> None:
        """In a database from `scratch`."""
        self._db = db
        db.execute("CREATE TABLE seen (id INTEGER, digest INTEGER, line INTEGER)")
        self._rows = Rows(db, "seen", 3)

    def add(self, key: int, digest: int, line: int) -> None:
        """A line with an id; both as digests."""
        self._rows.add(key, digest, line)

    def lines(self) -> Repeats:
        """Whole lines that stand there again."""
        return self._find(f"SELECT line, {_OF_LINE} AS first FROM seen")  # noqa: S608

    def ids(self) -> Repeats:
        """Ids that come again with something else beside them."""
        both = f"SELECT line, {_OF_ID} AS first, {_OF_LINE} AS same FROM seen"  # noqa: S608
        return self._find(f"SELECT line, first FROM ({both}) WHERE line = same")  # noqa: S608

    def _find(self, pairs: str) -> Repeats:
        self._rows.flush()
        query = f"SELECT line, first FROM ({pairs}) WHERE line > first"  # noqa: S608
        count = self._db.execute(f"SELECT count(*) FROM ({query})").fetchone()[0]  # noqa: S608
        if not count:
            return Repeats(Noted(), ())
        rows = self._db.execute(f"{query} ORDER BY line LIMIT {SHOWN}").fetchall()
        return Repeats(Noted(count, [line for line, _ in rows]), tuple(first for _, first in rows))
