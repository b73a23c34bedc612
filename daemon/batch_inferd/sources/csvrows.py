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


class Record(NamedTuple):
    """The 1-based line that it begins on, its cells (none: a blank line), and what is wrong with it."""

    line: int
    cells: list[str]
    problem: str = ""


class _Open(Exception):  # noqa: N818
    """The file ended, or the limit was reached, within a record."""


class _Feed:
    """Gives lines to the csv module, remembers those of the record, and takes some back."""

    def __init__(self, lines: Iterator[str], limit: int) -> None:
        self._lines = lines
        self._limit = limit
        self._back: deque[str] = deque()
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


def read_records(lines: Iterator[str], delimiter: str, limit: int = MAX_RECORD) -> Iterator[Record]:
    """Records, blank lines included. `lines` come with their ends, none longer than limit + 1."""
    csv.field_size_limit(_NO_LIMIT)
    feed = _Feed(lines, limit)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        begin = feed.line + 1
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


def _unclosed(feed: _Feed, begin: int, limit: int) -> Record:
    long = len(feed.taken) == 1 and len(feed.taken[0]) > limit
    feed.commit(1)
    if long:
        return Record(begin, [], f"the line is longer than {limit} characters")
    return Record(begin, [], "a quote opens on this line and is never closed")


def _mended(feed: _Feed, begin: int, delimiter: str, reason: str) -> Record:
    """Text behind a closing quote: harmless on one line; over several, a quote is missing somewhere."""
    if len(feed.taken) == 1:
        line = feed.taken[0]
        feed.commit()
        return Record(begin, next(csv.reader([line], delimiter=delimiter)))
    feed.commit(1)
    return Record(begin, [], f"a quote opens on this line and is not closed as it should be ({reason})")
