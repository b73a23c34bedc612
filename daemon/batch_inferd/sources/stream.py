"""From the rows of any reader to canonical lines: ranges, iterations, and going on where one was."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import unquote_to_bytes

from batch_inferd.sources.row import Row, canonical, unexpected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_inferd.sources.spec import SourceSpec


_PLACE = frozenset({"row", "line", "path", "raw"})  # of `$source`: where a row stands


class Place(NamedTuple):
    """Where to go on in a folder or bucket, whose files may have come and gone: at or behind a path.

    `path` is as the system has it: what is no UTF-8 in it stands as lone surrogates.
    """

    path: str
    inclusive: bool


class Reader(Protocol):
    """The rows of one kind of source."""

    def pin(self) -> dict[str, Any]:
        """See `Source.pin`."""

    def count(self) -> int | None:
        """Rows in all, if that is cheaply known."""

    def rows(self, first: int, place: Place | None) -> Iterator[Row]:
        """Rows from index `first` on. With a place, the first one behind it gets that index."""


class Stream:
    """A Source over a reader."""

    def __init__(self, spec: SourceSpec, reader: Reader) -> None:
        self._spec = spec
        self._reader = reader
        self._each = spec.iterations
        self._numbered = spec.iterations > 1 or spec.kind == "topics"

    def pin(self) -> dict[str, Any]:
        """See `Source.pin`."""
        return self._reader.pin()

    def count(self) -> int | None:
        """Records of the range that is asked for, with their iterations."""
        rows = self._reader.count()
        if rows is None:
            return None
        end = rows if self._spec.end_row is None else min(rows, self._spec.end_row)
        return max(0, end - self._spec.start_row) * self._each

    @property
    def columns(self) -> list[str]:
        """See `Source.columns`."""
        return list(getattr(self._reader, "columns", ()))

    def records(self, start: int = 0, last: bytes | None = None) -> Iterator[bytes]:
        """See `Source.records`."""
        if last is None:
            rows, done = divmod(start, self._each)
            first, place = self._spec.start_row + rows, None
        else:
            first, done, place = self._behind(last)
        end, key = self._spec.end_row, self._spec.messages_key
        for row in self._reader.rows(first, place):
            if end is not None and row.index >= end:
                return
            if row.index != first or (place and _path(row.source) != place.path):
                done = 0
            for iteration in range(done + 1, self._each + 1):
                yield _line(row, key, iteration if self._numbered else None)

    def passed(self, last: bytes) -> int:
        """See `Source.passed`."""
        source = json.loads(last)["$source"]
        rows = int(source["row"]) - self._spec.start_row
        return rows * self._each + int(source.get("iteration", 1))

    def _behind(self, last: bytes) -> tuple[int, int, Place | None]:
        """Row, iterations of it that are done, and place, behind a line that this stream once gave."""
        source = json.loads(last)["$source"]
        done = int(source.get("iteration", 1))
        whole = done >= self._each
        path = _path(source)
        place = None if path is None else Place(path, inclusive=not whole)
        return (source["row"] + 1, 0, place) if whole else (source["row"], done, place)


def _line(row: Row, key: str, iteration: int | None) -> bytes:
    try:
        return canonical(row, key, iteration)
    except Exception as error:  # noqa: BLE001  whatever it is, it is this row's
        place = {name: at for name, at in row.source.items() if name in _PLACE}
        bad = Row(row.index, row.custom_id, place, error=unexpected(error, f"row {row.index}"))
        return canonical(bad, key, iteration)


def _path(source: dict[str, Any]) -> str | None:
    """Of a file or object, as the system has it."""
    raw = source.get("raw")
    return source.get("path") if raw is None else os.fsdecode(unquote_to_bytes(raw))
