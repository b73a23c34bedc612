"""CSV and TSV: the rows of a file as a spreadsheet writes it, ragged ones as errors."""

from __future__ import annotations

import os
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from batch_infer.protocol.errors import InputError
from batch_infer.protocol.text import Text
from batch_inferd.sources.csvhead import SAMPLE_LINES, Dialect, columns_of, delimiter_of, look
from batch_inferd.sources.csvrows import MAX_RECORD, Record, read_records
from batch_inferd.sources.files import pin_file, read_blocks
from batch_inferd.sources.row import INVALID, Row
from batch_inferd.sources.table import Table
from batch_inferd.sources.text import check_encoding, is_marked, read_lines, text_blocks, unmarked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_inferd.sources.spec import SourceSpec
    from batch_inferd.sources.stream import Place

_SHOWN = 80
_SAMPLE_CHARS = 1024 * 1024


class _Opened(NamedTuple):
    columns: list[str]
    records: Iterator[Record]  # behind the header


class CsvReader:
    """The data rows of a CSV or TSV. Blank lines are no rows, as for pandas."""

    def __init__(self, spec: SourceSpec) -> None:
        """Reads the header. Raises InputError for whatever in it does not fit the spec."""
        self._spec = spec
        self._name = os.path.basename(spec.path)
        if spec.encoding:
            check_encoding(spec.encoding)
        self._delimiter = delimiter_of(spec.delimiter) if spec.delimiter else None
        if self._delimiter is None and spec.kind == "tsv":
            self._delimiter = "\t"
        self.columns = self._open().columns
        self._table = Table(spec, self.columns)

    def pin(self) -> dict[str, Any]:
        """See `Source.pin`."""
        return pin_file(self._spec.path)

    def count(self) -> None:
        """Not known before all of it is read: a cell may hold newlines."""
        return

    def rows(self, first: int, place: Place | None) -> Iterator[Row]:  # noqa: ARG002  files have no places
        """See `Reader.rows`."""
        index = -1
        for record in self._open().records:
            if not record.cells and not record.problem:
                continue
            index += 1
            if index >= first:
                yield self._row(index, record)

    def _open(self) -> _Opened:
        blocks = read_blocks(self._spec.path, self._spec.compression)
        lines = read_lines(text_blocks(blocks, self._spec.encoding, self._name), MAX_RECORD)
        sample = _sample(lines)
        dialect: Dialect = look(sample, self._delimiter)
        before = dialect.skip
        records = (
            record._replace(line=record.line + before)
            for record in read_records(chain(sample[before:], lines), dialect.delimiter)
        )
        for header in records:
            if header.problem:
                raise InputError(
                    Text(
                        "{name}, line {line}: the header cannot be read: {problem}",
                        {"name": self._name, "line": header.line, "problem": header.problem},
                    )
                )
            if header.cells:
                return _Opened(columns_of([unmarked(cell) for cell in header.cells], self._name), records)
        raise InputError(Text("{name} is empty: its first row should name the columns", {"name": self._name}))

    def _row(self, index: int, record: Record) -> Row:
        cells, width = record.cells, len(self.columns)
        where = f"{self._name}, line {record.line} (row {index})"
        while len(cells) > width and not cells[-1].strip():
            cells.pop()
        problem = record.problem
        if len(cells) > width:
            extra = f"the header has {width}; the first too many is {_shown(cells[width])}"
            problem = f"it has {len(cells)} cells, and {extra}: put cells with a delimiter in them in quotes"
        texts = dict(zip(self.columns, cells, strict=False))
        if any(is_marked(text) for text in cells):
            texts = {name: unmarked(text) for name, text in texts.items()}
            problem = (
                problem or "it is not in the file's encoding: save the file as UTF-8, or set input.encoding"
            )
        missing = [name for name in self.columns[len(cells) :] if name in self._table.needed]
        if missing and not problem:
            problem = (
                f'it has {len(cells)} cells, and the header has {width}: "{missing[0]}" is missing; '
                "write the missing delimiters"
            )
        texts |= dict.fromkeys(self.columns[len(cells) :], "")
        if problem:
            custom_id = self._custom_id(texts, index)
            source = {"row": index, "columns": texts}
            return Row(index, custom_id, source, error=(INVALID, f"{where}: {problem}"))
        return self._table.row(index, texts, where=where)

    def _custom_id(self, texts: dict[str, str], index: int) -> str:
        """Of a bad row: its id where it can be read."""
        name = self._spec.id_column
        return (texts.get(name, "").strip() if name else "") or str(index)


def _sample(lines: Iterator[str]) -> list[str]:
    """The first lines, or fewer where they are long."""
    taken: list[str] = []
    size = 0
    for line in islice(lines, SAMPLE_LINES):
        taken.append(line)
        size += len(line)
        if size > _SAMPLE_CHARS:
            break
    return taken


def _shown(text: str) -> str:
    text = unmarked(text)
    return f'"{text[:_SHOWN]}…"' if len(text) > _SHOWN else f'"{text}"'
