"""The records of a CSV with the line that each begins on, by the csv module, in bounded memory.

A quote that is never closed would swallow the rest of the file into one cell. Such a record is given
as a problem of its first line alone, and reading goes on with the second.
"""

from __future__ import annotations

import csv
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_RECORD = 16 * 1024 * 1024  # characters
_NO_LIMIT = 2**31 - 1  # ours is of the record, not of the field
_NEVER = "a quote opens on this line and is never closed"
_STILL_OPEN = "open"  # no message of the csv module


class Record(NamedTuple):
    """The 1-based line that it begins on, its cells (none: a blank line), and what is wrong with it."""

    line: int
    cells: list[str]
    problem: str = ""


class _Open(Exception):  # noqa: N818
    """The file ended, or the limit was reached, within a record."""


class _Feed:
    """Gives lines to the csv module, remembers those of the record, and takes some back.

    Lines that were taken back behind an open quote are known to leave it open. So that each of many such
    records is not looked for to the end of the file again, `stays_open` goes on from where that is known.
    """

    def __init__(self, lines: Iterator[str], delimiter: str, limit: int) -> None:
        self._lines = lines
        self._delimiter = delimiter
        self._limit = limit
        self._back: deque[str] = deque()
        self._known = 0  # of those at the front of `_back`: a quote that is open before them stays open
        self._known_size = 0
        self._stop: str | None = None  # what the csv module says of the line behind them, if it was asked
        self._size = 0
        self.taken: list[str] = []
        self.line = 0  # lines before those that are taken

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        line = self._back.popleft() if self._back else next(self._lines, None)
        if line is None:
            if self.taken:
                raise _Open
            raise StopIteration
        if self._known:
            self._known -= 1
            self._known_size -= len(line)
        else:
            self._stop = None  # it is gone
        self.taken.append(line)
        self._size += len(line)
        if self._size > self._limit:
            raise _Open
        return line

    def commit(self, lines: int | None = None) -> None:
        """The first `lines` that were taken are done (None: all); the others are read again."""
        keep = len(self.taken) if lines is None else lines
        self._back.extendleft(reversed(self.taken[keep:]))
        self.line += keep
        self.taken.clear()
        self._size = 0

    def first_only(self, known: int) -> None:
        """Only the first line that was taken is done; `known` more of them left its quote open."""
        self._known_size = sum(map(len, self.taken[1 : 1 + known]))
        self._known = known
        self._stop = None
        self.commit(1)

    def first(self) -> str | None:
        """The next line, where something is known of those behind it; then nothing is taken."""
        return self._back[0] if self._known else None

    def stays_open(self) -> str | None:
        """What is wrong with a record whose first line, the next one, leaves a quote open.

        None when it is closed as it should be, within the limit.
        """
        size = self._known_size  # with the first line, which is one of those that are known
        while True:
            if len(self._back) > self._known:
                line = self._back[self._known]
            else:
                line = next(self._lines, "")
                if not line:
                    return _NEVER
                self._back.append(line)
            if size + len(line) > self._limit:
                return _NEVER
            if self._stop is None:
                self._stop = self._behind_a_quote(line)
            if self._stop != _STILL_OPEN:
                return _wrongly(self._stop) if self._stop else None
            self._stop = None
            self._known += 1
            self._known_size += len(line)
            size += len(line)

    def _behind_a_quote(self, line: str) -> str:
        """What the csv module says of a line within quotes; nothing when it ends the record."""
        try:
            next(csv.reader(_alone(f'"{line}'), delimiter=self._delimiter, strict=True))
        except _Open:
            return _STILL_OPEN
        except csv.Error as error:
            return str(error) or "?"
        return ""


def _alone(line: str) -> Iterator[str]:
    yield line
    raise _Open


def read_records(lines: Iterator[str], delimiter: str, limit: int = MAX_RECORD) -> Iterator[Record]:
    """Records, blank lines included. `lines` come with their ends, none longer than limit + 1."""
    csv.field_size_limit(_NO_LIMIT)
    feed = _Feed(lines, delimiter, limit)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        begin = feed.line + 1
        first = feed.first()
        if first is not None and _is_open(first, delimiter) and (problem := feed.stays_open()):
            next(feed)
            feed.commit()
            yield Record(begin, [], problem)
            continue
        try:
            cells = next(reader)
        except StopIteration:
            return
        except _Open:
            yield _unclosed(feed, begin, limit)
            continue
        except csv.Error as error:
            yield _mended(feed, begin, delimiter, str(error))
            continue
        feed.commit()
        yield Record(begin, cells)


def _is_open(line: str, delimiter: str) -> bool:
    """Whether a record that begins with this line goes on behind it."""
    try:
        next(csv.reader(_alone(line), delimiter=delimiter, strict=True))
    except _Open:
        return True
    except csv.Error:
        pass
    return False


def _unclosed(feed: _Feed, begin: int, limit: int) -> Record:
    long = len(feed.taken) == 1 and len(feed.taken[0]) > limit
    feed.first_only(max(0, len(feed.taken) - 2))  # the last one may have been too much to be looked at
    if long:
        return Record(begin, [], f"the line is longer than {limit} characters")
    return Record(begin, [], _NEVER)


def _mended(feed: _Feed, begin: int, delimiter: str, reason: str) -> Record:
    """Text behind a closing quote: harmless on one line; over several, a quote is missing somewhere."""
    if len(feed.taken) == 1:
        line = feed.taken[0]
        feed.commit()
        return Record(begin, next(csv.reader([line], delimiter=delimiter)))
    feed.first_only(len(feed.taken) - 2)
    return Record(begin, [], _wrongly(reason))


def _wrongly(reason: str) -> str:
    return f"a quote opens on this line and is not closed as it should be ({reason})"
