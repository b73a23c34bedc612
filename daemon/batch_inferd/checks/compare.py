"""How a damaged file differs from what it should be: line by line, whatever its size, in bounded memory.

Lines are compared by digests in a temporary table. A line that stands in both files is matched, its k-th
copy with the k-th one; what is left over on either side says what happened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from batch_infer.protocol.text import Text
from batch_inferd.checks.findings import SHOWN, Finding, Noted, finding
from batch_inferd.checks.scratch import Rows, scratch
from batch_inferd.checks.textfile import text_lines

if TYPE_CHECKING:
    import sqlite3

    from batch_inferd.checks.content import Tick

_STEPS_A_LOOK = 100_000  # of SQLite's machine, between two looks whether to stop
# `nth` and `copies` of each line, among those that are alike; `now` is the damaged file, `good` the other.
_COUNTED = (
    "SELECT line, digest, row_number() OVER (PARTITION BY digest ORDER BY line) AS nth, "
    "count(*) OVER (PARTITION BY digest) AS copies FROM {table}"
)
# Lines that have no counterpart, each with the line of the good file that is matched before it: its gap.
_LEFT = (
    "SELECT line, gap, row_number() OVER (PARTITION BY gap ORDER BY line) AS nth FROM (SELECT line, "
    "coalesce((SELECT good FROM pairs WHERE {side} < x.line ORDER BY {side} DESC LIMIT 1), 0) AS gap "
    "FROM {table} AS x WHERE {alone})"
)
_PAIRS = (
    "SELECT n.line AS now, g.line AS good, n.copies = g.copies AS sure "
    "FROM now_ AS n JOIN good_ AS g USING (digest, nth)"
)
_STRANGE = _LEFT.format(side="now", table="now_", alone="digest NOT IN (SELECT digest FROM good_)")
_LACKING = _LEFT.format(side="good", table="good_", alone="line NOT IN (SELECT good FROM pairs)")
_EDITED = "SELECT s.line AS now, l.line AS good FROM strange AS s JOIN lost AS l USING (gap, nth)"
_STEPS = (
    f"CREATE TABLE now_ AS {_COUNTED.format(table='now')}",
    f"CREATE TABLE good_ AS {_COUNTED.format(table='good')}",
    "CREATE INDEX now_key ON now_ (digest, nth)",
    "CREATE INDEX good_key ON good_ (digest, nth)",
    f"CREATE TABLE pairs AS {_PAIRS}",
    "CREATE INDEX pairs_now ON pairs (now, good)",
    "CREATE INDEX pairs_good ON pairs (good)",
    f"CREATE TABLE strange AS {_STRANGE}",
    f"CREATE TABLE lost AS {_LACKING}",
    "CREATE INDEX strange_key ON strange (gap, nth)",
    "CREATE INDEX lost_key ON lost (gap, nth)",
    f"CREATE TABLE edited AS {_EDITED}",
)
_DUPLICATED = (
    "SELECT line, (SELECT line FROM now_ AS f WHERE f.digest = x.digest AND f.nth = 1) FROM now_ AS x "
    "WHERE line NOT IN (SELECT now FROM pairs) AND digest IN (SELECT digest FROM good_)"
)
# Among lines whose number of copies is right: those that stand where another one should.
_MOVED = (
    "SELECT now FROM (SELECT now, row_number() OVER (ORDER BY now) AS is_, "
    "row_number() OVER (ORDER BY good) AS should FROM pairs WHERE sure) WHERE is_ <> should"
)
_LAST = "(SELECT max(good) FROM (SELECT good FROM pairs UNION ALL SELECT good FROM edited))"
_LOST = "SELECT line FROM lost WHERE line NOT IN (SELECT good FROM edited)"


def compare(now: int, good: int, tick: Tick) -> list[Finding]:
    """What happened to a file. Blocks.

    Args:
        now: a descriptor of the damaged file, at its beginning; the caller closes it.
        good: one of the file as it should be, likewise.
        tick: counts the bytes of both.

    Empty where the files are the same. Raises OSError, sqlite3.Error, Stopped.
    """
    with scratch() as db:
        db.set_progress_handler(tick.stop.is_set, _STEPS_A_LOOK)
        torn = _read(db, "now", now, tick)
        _read(db, "good", good, tick)
        if torn is not None:
            torn = _keep_whole(db, torn)
        for step in _STEPS:
            tick.add(0)
            db.execute(step)
        return _findings(db, torn)


class _Torn(NamedTuple):
    """A last line without a newline. `whole`: it lacks nothing else."""

    line: int
    digest: int
    whole: bool = False


def _read(db: sqlite3.Connection, table: str, fd: int, tick: Tick) -> _Torn | None:
    """Put a file's lines into a table, but for a last one without a newline."""
    db.execute(f"CREATE TABLE {table} (line INTEGER PRIMARY KEY, digest INTEGER)")
    rows = Rows(db, table, 2)
    torn: _Torn | None = None
    for line in text_lines(fd, lambda data: tick.add(len(data))):
        if line.ended:
            rows.add(line.number, line.digest)
        else:
            torn = _Torn(line.number, line.digest)
    rows.flush()
    return torn


def _keep_whole(db: sqlite3.Connection, torn: _Torn) -> _Torn:
    """A last line that lacks nothing but its newline counts as the line it is."""
    if db.execute("SELECT 1 FROM good WHERE digest = ? LIMIT 1", (torn.digest,)).fetchone() is None:
        return torn
    db.execute("INSERT INTO now VALUES (?, ?)", (torn.line, torn.digest))
    return torn._replace(whole=True)


def _findings(db: sqlite3.Connection, torn: _Torn | None) -> list[Finding]:
    found: list[Finding] = []
    tail = _noted(db, f"{_LOST} AND line > coalesce({_LAST}, 0)")
    if tail.count or torn is not None:
        found.append(_truncated(tail, torn))
    noted, of = _pairs(db, _DUPLICATED)
    if noted.count:
        one = Text("line {line} is line {first} once more")
        more = Text("{n} lines stand in it more than once: lines {lines}; line {line} is line {first}")
        found.append(finding("duplicated", noted, one, more, of))
    moved = _noted(db, _MOVED)
    if moved.count:
        both = Text("{n} lines are not in their places: lines {lines}")
        found.append(finding("reordered", moved, both, both))
    edited = _noted(db, "SELECT now FROM edited")
    if edited.count:
        one = Text("line {line} was changed")
        found.append(finding("edited", edited, one, Text("{n} lines were changed: lines {lines}")))
    lost = _noted(db, f"{_LOST} AND line <= coalesce({_LAST}, 0)")
    if lost.count:
        one = Text("line {line} of the file as it was is not there")
        more = Text("{n} lines of the file as it was are not there: lines {lines}")
        found.append(finding("lost", lost, one, more))
    strange = _noted(db, "SELECT line FROM strange WHERE line NOT IN (SELECT now FROM edited)")
    if strange.count:
        one = Text("line {line} does not belong to it")
        more = Text("{n} lines do not belong to it: lines {lines}")
        found.append(finding("foreign", strange, one, more))
    return found


def _truncated(tail: Noted, torn: _Torn | None) -> Finding:
    """`tail`: the lines of the good file behind all that are there."""
    in_the_middle = torn is not None and not torn.whole
    lines = tuple(tail.lines)
    if tail.count:
        values = {"n": f"{tail.count:,}", "line": tail.lines[0]}
        text = Text("it is cut off: from line {line} on, {n} lines are missing", values)
        if in_the_middle:
            text = Text(
                "it is cut off in the middle of line {line}: from there on, {n} lines are missing", values
            )
    elif torn is not None and in_the_middle:
        text = Text("it is cut off in the middle of line {line}", {"line": torn.line})
        lines = (torn.line,)
    else:
        text = Text("it is cut off: only the newline at its end is missing")
    return Finding("truncated", text, tail.count, lines)


def _noted(db: sqlite3.Connection, query: str) -> Noted:
    """The numbers of a query with one column."""
    count = db.execute(f"SELECT count(*) FROM ({query})").fetchone()[0]  # noqa: S608
    if not count:
        return Noted()
    return Noted(count, [row[0] for row in db.execute(f"{query} ORDER BY 1 LIMIT {SHOWN}")])


def _pairs(db: sqlite3.Connection, query: str) -> tuple[Noted, tuple[int, ...]]:
    """As `_noted`, for two columns."""
    count = db.execute(f"SELECT count(*) FROM ({query})").fetchone()[0]  # noqa: S608
    rows = db.execute(f"{query} ORDER BY 1 LIMIT {SHOWN}").fetchall()
    return Noted(count, [row[0] for row in rows]), tuple(row[1] for row in rows)
