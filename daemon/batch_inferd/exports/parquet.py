"""Exports as Parquet, with pyarrow, which is an extra."""

from __future__ import annotations

import io
from importlib import import_module
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import UsageError
from batch_inferd.exports.columns import Columns, cell
from batch_inferd.exports.extra import missing_pyarrow

if TYPE_CHECKING:
    from batch_inferd.exports.reading import Exported, Record
    from batch_inferd.merge.outputs import OutputFile

_ROWS = 10_000  # of a row group, at most
_BYTES = 16 * 1024 * 1024  # of its texts, about


class ParquetTable:
    """`parquet`: a row a record; columns of the input keep their types where all values are of one."""

    def __init__(self, out: OutputFile, columns: Columns) -> None:
        """Raises UsageError where pyarrow is not installed."""
        missing = missing_pyarrow()
        if missing is not None:
            raise UsageError(missing)
        arrow = self._arrow = import_module("pyarrow")
        parquet = import_module("pyarrow.parquet")
        self._columns = columns
        names = columns.header
        types = [*([arrow.string()] if columns.with_task else [])]
        types += [_type(arrow, kinds) for kinds in columns.inputs.values()]
        types += [arrow.string()] * 3 + [arrow.int64()] * 2
        self._schema = arrow.schema(list(zip(names, types, strict=True)))
        self._texts = [arrow.types.is_string(kind) for kind in types]
        self._writer = parquet.ParquetWriter(_Sink(out), self._schema, compression="zstd")
        self._rows: list[list[Any]] = []
        self._bytes = 0

    def add(self, task: Exported, _chunk: int, record: Record) -> None:
        """The next record."""
        row = self._columns.values(task, record)
        for at, text in enumerate(self._texts):
            if text and row[at] is not None:
                row[at] = cell(row[at]).encode("utf-8", "replace").decode()
                self._bytes += len(row[at])
        self._rows.append(row)
        if len(self._rows) >= _ROWS or self._bytes >= _BYTES:
            self._flush()

    def finish(self) -> None:
        """Write what is left, and the footer."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if not self._rows:
            return
        columns = [
            self._arrow.array(values, type=field.type)
            for values, field in zip(zip(*self._rows, strict=True), self._schema, strict=True)
        ]
        self._writer.write_table(self._arrow.Table.from_arrays(columns, schema=self._schema))
        self._rows, self._bytes = [], 0


def _type(arrow: Any, kinds: set[str]) -> Any:
    if kinds and kinds <= {"int", "long"}:
        return arrow.int64()
    if kinds and kinds <= {"int", "float"}:
        return arrow.float64()
    return arrow.bool_() if kinds == {"bool"} else arrow.string()


class _Sink(io.RawIOBase):
    """An output as a file that can only be written to, for pyarrow."""

    def __init__(self, out: OutputFile) -> None:
        super().__init__()
        self._out = out
        self._at = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self._out.write(bytes(data))
        self._at += size
        return size
