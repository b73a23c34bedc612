"""The file of `-rows`: which records are meant, by row number or by id."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Self

import msgspec

from batch_infer.protocol.errors import InputError
from batch_infer.protocol.regular import open_regular
from batch_infer.protocol.text import Text
from batch_inferd.backends.body import custom_id_of
from batch_inferd.journal.names import chunk_name
from batch_inferd.lines import BOM, find_lines, read_range

if TYPE_CHECKING:
    from batch_inferd.seams.files import Directory
    from batch_inferd.store.taskdb import ChunkRow

MOST = 1_000_000  # entries
_ENTRY_BYTES = 4096
_LINE_BYTES = 1024 * 1024  # of an input line; in a longer one no id is looked for


class ChosenRows:
    """Row numbers from 0, and ids; `unmatched` says in the end how many of them named no record."""

    def __init__(self, numbers: set[int], ids: set[str]) -> None:
        self._numbers, self._ids = numbers, ids
        self._seen_numbers: set[int] = set()
        self._seen_ids: set[str] = set()

    def has(self, row: int, custom_id: str) -> bool:
        """Whether a record is among them."""
        by_number, by_id = row in self._numbers, custom_id in self._ids
        if by_number:
            self._seen_numbers.add(row)
        if by_id:
            self._seen_ids.add(custom_id)
        return by_number or by_id

    @property
    def unmatched(self) -> int:
        """Entries that `has` never met."""
        return len(self._numbers) + len(self._ids) - len(self._seen_numbers) - len(self._seen_ids)


def read_rows(path: str) -> ChosenRows:
    """Read the file: an entry a line; digits are a row number, anything else, or a JSON string, an id.

    Blocks. Raises InputError: it cannot be read, is empty, or has too many or too long lines.
    """
    numbers: set[int] = set()
    ids: set[str] = set()
    values = {"path": path, "most": f"{MOST:,}"}
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            while line := file.readline(_ENTRY_BYTES):
                if len(line) == _ENTRY_BYTES or len(numbers) + len(ids) >= MOST:
                    raise InputError(
                        Text("{path} is no list of rows: an entry a line, {most} at most", values)
                    )
                entry = line.removeprefix(BOM).decode("utf-8", "replace").strip()
                if entry.isascii() and entry.isdecimal():
                    numbers.add(int(entry))
                elif entry:
                    ids.add(_unquoted(entry))
    except OSError as error:
        values["reason"] = error.strerror or str(error)
        raise InputError(Text("the list of rows {path} cannot be read: {reason}", values)) from error
    if not numbers and not ids:
        raise InputError(Text("the list of rows {path} is empty", values))
    return ChosenRows(numbers, ids)


def _unquoted(entry: str) -> str:
    try:
        value = json.loads(entry)
    except (ValueError, RecursionError):
        return entry
    return value if isinstance(value, str) else entry


class _Source(msgspec.Struct):
    row: int | None = None


class _Line(msgspec.Struct):
    source: _Source | None = msgspec.field(name="$source", default=None)


_decode = msgspec.json.Decoder(_Line).decode


class RowReader:
    """Looks up how a person names the records of a chunk. A context manager."""

    def __init__(self, directory: Directory, row: ChunkRow) -> None:
        """Raises OSError."""
        self._first = row.first_line
        self._fd = directory.open(chunk_name(row.n), os.O_RDONLY)
        self._lines = find_lines(self._fd, start_of_input=row.first_line == 1)

    def names(self, index: int) -> tuple[int, str]:
        """Row number from 0 and custom_id of line `index` of the chunk.

        The row is that of the CSV or the like, else the line's place in the input. Raises OSError.
        """
        line = self._first + index
        length = self._lines.length(index)
        data = read_range(self._fd, self._lines.offset(index), length) if length <= _LINE_BYTES else b""
        try:
            source = _decode(data).source
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            source = None
        row = line - 1 if source is None or source.row is None else source.row
        return row, str(json.loads(custom_id_of(data, line)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
