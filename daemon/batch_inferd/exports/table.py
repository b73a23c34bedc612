"""Exports as a table of text: CSV and TSV, a row a record."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from batch_inferd.exports.columns import Columns, cell

if TYPE_CHECKING:
    from batch_inferd.exports.reading import Exported, Record
    from batch_inferd.merge.outputs import OutputFile

_BLOCK = 64 * 1024  # characters


class TextTable:
    """`csv` and `tsv`: quoted where needed, rows end with CR LF, as spreadsheets write them.

    Cells hold the texts as they are, also one that begins with an equals sign.
    """

    def __init__(self, out: OutputFile, columns: Columns, *, delimiter: str, encoding: str) -> None:
        self._out = out
        self._columns = columns
        self._encoding = "utf-8" if encoding == "utf-8-sig" else encoding
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text, delimiter=delimiter, lineterminator="\r\n")
        if encoding == "utf-8-sig":
            self._text.write("\N{ZERO WIDTH NO-BREAK SPACE}")
        self._writer.writerow(columns.header)

    def add(self, task: Exported, _chunk: int, record: Record) -> None:
        """The next record."""
        self._writer.writerow([cell(value) for value in self._columns.values(task, record)])
        if self._text.tell() >= _BLOCK:
            self._flush()

    def finish(self) -> None:
        """Write what is left."""
        self._flush()

    def _flush(self) -> None:
        # A lone half of an emoji, cut by a model, has no encoding: it becomes a question mark.
        self._out.write(self._text.getvalue().encode(self._encoding, "replace"))
        self._text.seek(0)
        self._text.truncate()
