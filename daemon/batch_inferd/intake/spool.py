"""Spooling: the records of a source go into a file of canonical lines, once, whatever happens between.

The file itself says how far it is: after a crash its last whole line is what the source goes on behind.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from batch_infer.protocol.errors import InputError
from batch_infer.protocol.text import Text
from batch_inferd.seams.failpoint import failpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from batch_inferd.intake.linefile import LineFile
    from batch_inferd.sources.spec import Source

GROUP_BYTES = 1024 * 1024
GROUP_S = 0.2
SYNC_S = 1.0


class SpoolStopped(Exception):  # noqa: N818  it was asked for
    """The stop flag was set; what was written stays, and can be gone on from."""


class Sink(Protocol):
    """Where records go."""

    @property
    def records(self) -> int:
        """How many it has, of this and of earlier runs."""

    @property
    def last(self) -> bytes | None:
        """The canonical line of the last of them."""

    def put(self, line: bytes) -> None:
        """Take one more. Raises OSError."""

    def finish(self) -> None:
        """Make all of them durable. Raises OSError."""


class Poured(NamedTuple):
    """What became of a source, in all runs: `skipped` were answered already, `more` lay beyond the limit."""

    records: int
    skipped: int
    more: bool


class _Head(msgspec.Struct):
    custom_id: str = ""


_HEAD = msgspec.json.Decoder(_Head)


def record_id(line: bytes) -> str:
    """The custom_id of a canonical line."""
    try:
        return _HEAD.decode(line).custom_id
    except msgspec.DecodeError:  # the escape of a lone surrogate, which only json takes
        return str(json.loads(line)["custom_id"])


def pour(
    source: Source,
    sink: Sink,
    *,
    done: Collection[str] = frozenset(),
    limit: int = 0,
    stop: Callable[[], bool] = lambda: False,
    tell: Callable[[Poured], None] = lambda _: None,
) -> Poured:
    """Put the source's records into `sink`, behind those that it has, without those whose id is in `done`.

    At most `limit` records in all (0: any number). `stop` is asked before each record, `tell` is called
    a few times a second. Everything is durable when this returns. Raises InputError (the source cannot
    be read), OSError (of the sink), SpoolStopped.
    """
    more = False
    told = 0.0
    last = sink.last
    skipped = source.passed(last) - sink.records if done and last is not None else 0
    for line in _records(source, last):
        if stop():
            sink.finish()
            raise SpoolStopped
        if done and record_id(line) in done:
            skipped += 1
        elif limit and sink.records >= limit:
            more = True
            break
        else:
            sink.put(line)
        now = time.monotonic()
        if now - told >= GROUP_S:
            told = now
            tell(Poured(sink.records, skipped, more))
    sink.finish()
    poured = Poured(sink.records, skipped, more)
    tell(poured)
    return poured


def _records(source: Source, last: bytes | None) -> Iterator[bytes]:
    """The source's lines behind `last`; its own trouble with the disk is told apart from the sink's."""
    try:
        records = iter(source.records(last=last))
        while True:
            line = next(records, None)
            if line is None:
                return
            yield line
    except OSError as error:
        raise unreadable(error) from error


def unreadable(error: OSError) -> InputError:
    """The source cannot be read, and why."""
    detail = error.strerror or str(error)
    if error.filename is not None:
        detail = f"{error.filename}: {detail}"
    return InputError(Text("the input cannot be read: {detail}", {"detail": detail}))


class SpoolSink:
    """The file of a task: records are written in groups, and synced each second."""

    def __init__(self, file: LineFile) -> None:
        self._file = file
        self._group: list[bytes] = []
        self._bytes = 0
        self._written = self._synced = time.monotonic()

    @property
    def records(self) -> int:
        """See Sink."""
        return self._file.lines + len(self._group)

    @property
    def last(self) -> bytes | None:
        """See Sink."""
        return self._group[-1] if self._group else self._file.last

    def put(self, line: bytes) -> None:
        """See Sink."""
        self._group.append(line)
        self._bytes += len(line)
        if self._bytes >= GROUP_BYTES or time.monotonic() - self._written >= GROUP_S:
            self._write()
            if time.monotonic() - self._synced >= SYNC_S:
                self._sync()

    def finish(self) -> None:
        """See Sink."""
        self._write()
        self._sync()

    def _write(self) -> None:
        if self._group:
            self._file.append(*self._group)
            self._group.clear()
            self._bytes = 0
            failpoint("spool.written")
        self._written = time.monotonic()

    def _sync(self) -> None:
        self._file.sync()
        self._synced = time.monotonic()
