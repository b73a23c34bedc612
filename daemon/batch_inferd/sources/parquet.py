"""Parquet, at most a few hundred rows and a few MiB at a time, by pyarrow (the extra `parquet`)."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import InputError
from batch_infer.protocol.text import Text
from batch_inferd.sources.files import pin_file
from batch_inferd.sources.row import Row, dumps, unexpected
from batch_inferd.sources.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_inferd.sources.spec import SourceSpec
    from batch_inferd.sources.stream import Place

BATCH_ROWS = 256
BATCH_BYTES = 8 * 2**20  # that are decoded at once, unless a single row has more
_BUFFER = 256 * 1024  # bytes of a column that are read ahead
_MEDIA = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
)


class ParquetReader:
    """The rows of a Parquet file. An image column may hold references, bytes, or both in a struct."""

    def __init__(self, spec: SourceSpec) -> None:
        """Reads the schema. Raises InputError: no pyarrow, no Parquet, or columns that it does not have."""
        self._spec = spec
        self._name = os.path.basename(spec.path)
        with self._open() as file:
            self._count: int = file.metadata.num_rows
            self.columns: list[str] = list(file.schema_arrow.names)
        self._table = Table(spec, self.columns)

    def pin(self) -> dict[str, Any]:
        """See `Source.pin`."""
        return pin_file(self._spec.path)

    def count(self) -> int:
        """The number of rows, which stands in the file."""
        return self._count

    def rows(self, first: int, place: Place | None) -> Iterator[Row]:  # noqa: ARG002  files have no places
        """See `Reader.rows`. Row groups before `first` are not read."""
        import pyarrow as pa  # type: ignore[import-untyped]  # noqa: PLC0415  an extra

        with self._open() as file:
            index, groups = 0, list(range(file.metadata.num_row_groups))
            while groups and index + file.metadata.row_group(groups[0]).num_rows <= first:
                index += file.metadata.row_group(groups.pop(0)).num_rows
            if not groups:
                return
            try:
                for batch in file.iter_batches(_at_once(file.metadata), row_groups=groups, use_threads=False):
                    if index + batch.num_rows <= first:
                        index += batch.num_rows
                        continue
                    for cells in _rows(batch):
                        if index >= first:
                            yield self._row(index, cells)
                        index += 1
            except pa.ArrowException as error:
                raise self._broken(error) from error

    def _row(self, index: int, cells: dict[str, Any]) -> Row:
        where = f"{self._name}, row {index}"
        try:
            return self._made(index, cells, where)
        except Exception as error:  # noqa: BLE001  whatever it is, it is this row's
            return Row(index, str(index), {"row": index}, error=unexpected(error, where))

    def _made(self, index: int, cells: dict[str, Any], where: str) -> Row:
        texts = {name: _text(value) for name, value in cells.items()}
        values = dict(texts)
        for name in self._spec.image_columns:
            values[name] = _images(cells[name])
        key = self._spec.messages_key
        if isinstance(cells.get(key), list):
            values[key] = cells[key]
        return self._table.row(index, texts, values, where=where)

    def _open(self) -> Any:
        pin_file(self._spec.path)
        try:
            import pyarrow as pa  # noqa: PLC0415  an extra, and slow to import
            import pyarrow.parquet as pq  # type: ignore[import-untyped]  # noqa: PLC0415  as above
        except ImportError as error:
            raise InputError(
                Text("reading {path} needs the extra `parquet`", {"path": self._spec.path}),
                hints=(Text("pip install 'batch_infer[parquet]'"),),
            ) from error
        try:
            return pq.ParquetFile(self._spec.path, buffer_size=_BUFFER, pre_buffer=False)
        except pa.ArrowException as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> InputError:
        reason = str(error).splitlines()[0][:200]
        return InputError(
            Text("{name} cannot be read as Parquet: {reason}", {"name": self._name, "reason": reason}),
            hints=(Text("write or fetch the file again"),),
        )


def _at_once(metadata: Any) -> int:
    """How many rows are decoded at once, by the row group whose rows weigh most."""
    heaviest = 0.0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        if group.num_rows:
            heaviest = max(heaviest, group.total_byte_size / group.num_rows)
    return max(1, min(BATCH_ROWS, int(BATCH_BYTES / max(1.0, heaviest))))


def _rows(batch: Any) -> Iterator[dict[str, Any]]:
    """The rows of a batch. Of one that is heavy all the same, each is copied on its own."""
    each = batch.num_rows if batch.nbytes <= BATCH_BYTES else 1
    for at in range(0, batch.num_rows, max(1, each)):
        yield from batch.slice(at, each).to_pylist()


def _text(value: Any) -> str:
    """A cell as text: nothing for null and bytes, JSON for lists and structs."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bytes):
        return ""
    if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
        return str(value.get("path") or "")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, dict)):
        return dumps(_plain(value)).decode()
    return str(value)


def _plain(value: Any) -> Any:
    """As JSON knows it."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    return value if isinstance(value, (str, int, float, bool, type(None))) else _text(value)


def _images(value: Any) -> Any:
    """What `Table` makes references of: bytes become a data URL."""
    if isinstance(value, list):
        return [_images(item) for item in value]
    if isinstance(value, dict):
        return _images(value.get("bytes") or value.get("path"))
    if isinstance(value, bytes) and value:
        media = next((name for magic, name in _MEDIA if value.startswith(magic)), "application/octet-stream")
        return f"data:{media};base64,{base64.b64encode(value).decode()}"
    return None if value == b"" else value
