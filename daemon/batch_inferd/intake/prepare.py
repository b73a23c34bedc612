"""`-prepare`: a source's records as one JSONL file, written record by record, gone on with after anything.

Beside the file stands `.NAME.prepare` until it is complete: what it is made of, then the canonical line
of each record, written before the record itself. So whatever stopped the writing, it is known which
record is the next one. Records that cannot be made go into `NAME.errors.jsonl`.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from batch_infer.protocol.errors import InputError
from batch_infer.protocol.text import Text
from batch_inferd.intake.linefile import LineFile
from batch_inferd.intake.shapes import RecordError, Shaper
from batch_inferd.intake.spool import SYNC_S, Poured, pour, record_id
from batch_inferd.intake.writing import Writing
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.seams.files import Directory
from batch_inferd.sources.row import dumps

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from batch_inferd.sources.spec import Source


class Prepared(NamedTuple):
    """Lines in the file, records that cannot be made, those that were answered already; bytes of the file.

    `seconds`, `new_lines` and `new_bytes` are what the call itself took and wrote: an earlier one may have
    begun the file.
    """

    lines: int
    failed: int
    skipped: int
    size: int
    seconds: float = 0.0
    new_lines: int = 0
    new_bytes: int = 0


def prepare(
    source: Source,
    out: Path,
    shaper: Shaper,
    *,
    made_of: dict[str, Any],
    owner: str = "",
    done: Collection[str] = frozenset(),
    stop: Callable[[], bool] = lambda: False,
    tell: Callable[[Prepared], None] = lambda _: None,
) -> Prepared:
    """Write the records of `source` to the file `out`, or go on with what an earlier call left of it.

    `made_of` (JSON) is all that decides the lines: with something else, a file is not gone on with.
    `owner` is told to others who would write the same file meanwhile: they are refused.
    `tell` is called a few times a second. Blocks; holds one record at a time. Raises InputError (also when
    `out` is there and complete), OSError (of the output), SpoolStopped.
    """
    file = _PreparedFile(out, shaper, made_of, owner)
    try:
        began, before = time.monotonic(), file.outcome(0)

        def told(poured: Poured) -> None:
            tell(file.outcome(poured.skipped))

        poured = pour(source, file, done=done, stop=stop, tell=told)
        file.complete()
        now = file.outcome(poured.skipped)
        return now._replace(
            seconds=time.monotonic() - began,
            new_lines=now.lines - before.lines,
            new_bytes=now.size - before.size,
        )
    finally:
        file.close()


def names(out: Path) -> tuple[str, str]:
    """What else is written beside `out`: the file of what cannot be made, and what it is gone on from."""
    return f"{out.stem}.errors{out.suffix}", f".{out.name}.prepare"


class _PreparedFile:
    """The sink: three files of one folder."""

    def __init__(self, out: Path, shaper: Shaper, made_of: dict[str, Any], owner: str) -> None:
        """Raises InputError, OSError."""
        self._shaper = shaper
        self._name = out.name
        self._errors_name, self._journal_name = names(out)
        self._synced = time.monotonic()
        self._errors: LineFile | None = None
        self._open: list[LineFile] = []
        self._writing: Writing | None = None
        self._directory = Directory(Path(os.path.realpath(out.parent)))
        try:
            self._writing = Writing(out, owner)
            self._begin(out, _header(made_of))
        except BaseException:
            self.close()
            raise

    def _begin(self, out: Path, header: bytes) -> None:
        there = set(self._directory.listdir())
        if self._journal_name not in there:
            for name in (self._name, self._errors_name):
                if name in there:
                    path = str(out.with_name(name))
                    raise InputError(
                        Text("the file {path} already exists", {"path": path}),
                        hints=(Text("remove it, or give another name after -out"),),
                    )
        self._journal = self._file(self._journal_name)
        if not self._journal.lines:
            self._journal.append(header)
            self._journal.sync()
            self._directory.sync()
        elif self._journal.first != header:
            raise InputError(
                Text("the file {path} was begun with another input or other settings", {"path": str(out)}),
                hints=(
                    Text("to begin anew, remove {files}", {"files": self._all_files(out)}),
                    Text("or give another name after -out"),
                ),
            )
        self._file_out = self._file(self._name)
        if self._errors_name in there:
            self._errors = self._file(self._errors_name)
        self._catch_up(out)

    def _file(self, name: str) -> LineFile:
        file = LineFile(self._directory, name)
        self._open.append(file)
        return file

    def _all_files(self, out: Path) -> str:
        return ", ".join(
            str(out.with_name(name)) for name in (self._name, self._errors_name, self._journal_name)
        )

    def _catch_up(self, out: Path) -> None:
        """Bring the journal and the files to the same record."""
        written = self._written
        if written > self.records:
            raise InputError(
                Text("the file {path} has records that nobody here wrote", {"path": str(out)}),
                hints=(Text("to begin anew, remove {files}", {"files": self._all_files(out)}),),
            )
        if written == self.records - 1:  # the last one was to be written
            last = self._journal.last
            assert last is not None  # noqa: S101  it has records
            self._emit(last)
        elif written < self.records:  # the power failed
            self._journal.cut(1 + written)

    @property
    def _written(self) -> int:
        return self._file_out.lines + (self._errors.lines if self._errors else 0)

    @property
    def records(self) -> int:
        """See Sink."""
        return self._journal.lines - 1

    @property
    def last(self) -> bytes | None:
        """See Sink."""
        return self._journal.last if self.records else None

    def put(self, line: bytes) -> None:
        """See Sink."""
        self._journal.append(line)
        failpoint("prepare.begun")
        self._emit(line)
        failpoint("prepare.written")
        if time.monotonic() - self._synced >= SYNC_S:
            self.finish()

    def finish(self) -> None:
        """See Sink."""
        for file in reversed(self._open):  # the journal last: it must not be ahead of what is durable
            file.sync()
        self._synced = time.monotonic()

    def _emit(self, line: bytes) -> None:
        try:
            shaped = self._shaper(line, self.records)
        except RecordError as error:
            if self._errors is None:
                self._errors = self._file(self._errors_name)
            told = {"code": error.cls, "message": str(error)}
            self._errors.append(dumps({"custom_id": record_id(line), "error": told}))
        else:
            self._file_out.append(shaped)

    def outcome(self, skipped: int) -> Prepared:
        """How far it is."""
        failed = self._errors.lines if self._errors else 0
        return Prepared(self._file_out.lines, failed, skipped, self._file_out.size)

    def complete(self) -> None:
        """All records are there, and durable. Raises OSError."""
        self._directory.sync()
        self._directory.unlink(self._journal_name)
        self._directory.sync()

    def close(self) -> None:
        """Close the files."""
        for file in self._open:
            file.close()
        self._open.clear()
        self._directory.close()
        if self._writing is not None:
            self._writing.end()
            self._writing = None


def _header(made_of: dict[str, Any]) -> bytes:
    text = json.dumps(made_of, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return msgspec.json.encode({"made_of": hashlib.sha256(text.encode()).hexdigest(), "version": 1})
