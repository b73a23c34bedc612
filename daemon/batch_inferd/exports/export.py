"""Writing an export: the right format, every record of all tasks, progress, and a file that is whole."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from batch_infer.protocol.errors import UsageError
from batch_infer.protocol.exports import ENCODINGS, PICTURE
from batch_infer.protocol.regular import NotRegularError
from batch_infer.protocol.text import Text
from batch_inferd.exports.columns import Columns
from batch_inferd.exports.lines import OutputLines, QuestionLines
from batch_inferd.exports.parquet import ParquetTable
from batch_inferd.exports.picture.write import write_picture
from batch_inferd.exports.reading import Exported, Record, read_chunks
from batch_inferd.exports.statistics import Statistics
from batch_inferd.exports.table import TextTable
from batch_inferd.exports.webpage.page import WebPage
from batch_inferd.merge.outputs import FileFacts, OutputFile
from batch_inferd.merge.tally import Tally
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.seams.files import Directory

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

Advance = Callable[[int], None]
_DELIMITERS = {"csv": ",", "tsv": "\t"}


class Writer(Protocol):
    """Writes the records of one format."""

    def add(self, task: Exported, chunk: int, record: Record) -> None:
        """The next record, of this chunk. Raises OSError."""

    def finish(self) -> None:
        """Write what is left; the file itself is closed by the caller. Raises OSError."""


class Written(NamedTuple):
    """A finished export: records of the inputs, and the file's size and digest."""

    records: int
    facts: FileFacts


def write_export(
    directory: Directory,
    name: str,
    tasks: Sequence[Exported],
    form: str,
    *,
    encoding: str = "",
    advance: Advance = lambda _: None,
    stop: threading.Event | None = None,
) -> Written:
    """Write a new file, durably; it is removed again when that fails.

    Args:
        directory: where the file is made.
        name: of the file; it must not be there.
        tasks: in the order of the file.
        form: one of `protocol.exports.FORMATS`.
        encoding: of csv and tsv; "" is the format's own.
        advance: called now and then with the number of records done.
        stop: looked at before each record.

    Raises OSError, ExportStopped, and UsageError where Parquet is asked for and cannot be written, or a
    picture of several tasks.
    """
    out = OutputFile(directory, name)
    try:
        records = _write(out, tasks, form, encoding, advance, stop)
        return Written(records, out.finish())
    except BaseException:
        out.abandon()
        directory.unlink(name)
        raise
    finally:
        out.abandon()


def _write(
    out: OutputFile,
    tasks: Sequence[Exported],
    form: str,
    encoding: str,
    advance: Advance,
    stop: threading.Event | None,
) -> int:
    if form == PICTURE:
        return write_picture(out, tasks, advance, stop)
    tally = Tally()
    writer = _writer(out, tasks, form, encoding, tally, stop)
    count = 0
    for task in tasks:
        for chunk in read_chunks(task, tally, stop):
            for record in chunk.records:
                writer.add(task, chunk.row.chunk, record)
                count += 1
            advance(count)
            failpoint("export.chunk")
    writer.finish()
    return count


def _writer(
    out: OutputFile,
    tasks: Sequence[Exported],
    form: str,
    encoding: str,
    tally: Tally,
    stop: threading.Event | None,
) -> Writer:
    match form:
        case "jsonl":
            return OutputLines(out)
        case "qa":
            return QuestionLines(out)
        case "json":
            return Statistics(out, tasks, tally)
        case "html":
            return WebPage(out, tasks)
        case "parquet":
            return ParquetTable(out, Columns(tasks, stop))
    encoding = encoding or (ENCODINGS[0] if form == "csv" else "utf-8")
    return TextTable(out, Columns(tasks, stop), delimiter=_DELIMITERS[form], encoding=encoding)


class Target:
    """The file that a person asked for: written beside, renamed into place when it is whole."""

    def __init__(self, path: str) -> None:
        """`path` is absolute. Raises UsageError: no folder for it, or no file stands there."""
        values: dict[str, Any] = {"path": path}
        parent, self._name = os.path.split(path)
        if os.path.isdir(path) or not self._name:
            raise UsageError(Text("{path} is a folder; name a file", values))
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            mode = os.lstat(path).st_mode
            if not S_ISREG(mode):  # a device must not be replaced, nor a link
                why = NotRegularError(mode, path).what
                raise UsageError(Text("{path} cannot be replaced: {why}", values | {"why": why}))
        try:
            self._directory = Directory(Path(os.path.realpath(parent)))
        except (FileNotFoundError, NotADirectoryError) as error:
            missing = {"path": parent}
            raise UsageError(Text("the folder {path} does not exist", missing)) from error
        self._part = f".{self._name[:100]}.{uuid.uuid4().hex[:8]}.part"

    @property
    def real(self) -> Path:
        """Where the file will stand, without links."""
        return self._directory.path / self._name

    def write(
        self,
        tasks: Sequence[Exported],
        form: str,
        encoding: str,
        advance: Advance,
        stop: threading.Event | None,
    ) -> Written:
        """Write it whole, or leave what was there. Raises as `write_export` does."""
        written = write_export(
            self._directory, self._part, tasks, form, encoding=encoding, advance=advance, stop=stop
        )
        try:
            self._directory.rename(self._part, self._name)
        except OSError:
            self._directory.unlink(self._part)
            raise
        self._directory.sync()
        return written

    def close(self) -> None:
        """Give the folder back."""
        self._directory.close()
