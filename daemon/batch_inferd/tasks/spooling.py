"""The first part of `preparing`: what is no plain JSON Lines file is written as one into the task's folder.

The facts of such a task: `source` is what its records are made of (see `Origin`), `spooled` whether they
are all there; then `skipped` says how many an earlier output answers. From then on the task's pin is that
of the spool.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from batch_infer.protocol.errors import InputError
from batch_infer.protocol.text import Text
from batch_inferd.intake.linefile import LineFile
from batch_inferd.intake.source import Pin
from batch_inferd.intake.spool import Poured, SpoolSink, SpoolStopped, pour, unreadable
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.sources.done import done_ids
from batch_inferd.sources.open import open_source
from batch_inferd.sources.spec import Source, SourceSpec
from batch_inferd.tasks import states
from batch_inferd.tasks.threads import in_thread

if TYPE_CHECKING:
    from pathlib import Path

    from batch_inferd.seams.files import Directory
    from batch_inferd.tasks.task import Task

SPOOL = "input.jsonl"
STDIN = "stdin.data"  # what came through a pipe, until it is spooled
STDIN_NAME = "-"


class Origin(NamedTuple):
    """What a task's records are made of. `pin` is what the source was at submit, `done` names an output.

    What came through a pipe has the path "-", and lies in the task's folder.
    """

    spec: SourceSpec
    pin: dict[str, Any]
    done: str | None = None

    def to_json(self) -> dict[str, Any]:
        """For the task's facts."""
        return {"spec": msgspec.to_builtins(self.spec), "pin": self.pin, "done": self.done}

    @classmethod
    def from_json(cls, data: dict[str, Any] | None) -> Origin | None:
        """The inverse of `to_json`."""
        if data is None:
            return None
        return cls(msgspec.convert(data["spec"], SourceSpec), data["pin"], data["done"])


def empty_pin(folder: Path) -> Pin:
    """The pin of a spool that is not written yet."""
    return Pin(str(folder / SPOOL), 0, 0, 0, 0)


def open_spool(directory: Directory, pinned: Pin) -> int:
    """A descriptor of the task's spool. Raises InputError when it is gone or damaged."""
    try:
        fd = directory.open(SPOOL, os.O_RDONLY)
    except FileNotFoundError as error:
        raise InputError(Text("{name} is gone from the task's folder", {"name": SPOOL})) from error
    if os.fstat(fd).st_size < pinned.size:
        os.close(fd)
        raise InputError(Text("{name} in the task's folder has become shorter", {"name": SPOOL}))
    return fd


class Spooling:
    """The spool of one task. Used by the task's driver only."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._accepted = False
        self._poured: Poured | None = None
        self._total: int | None = None

    @property
    def origin(self) -> Origin | None:
        """What the records are made of; None for a plain file that is cut where it lies."""
        return Origin.from_json(self._task.facts.get("source"))

    @property
    def used(self) -> bool:
        """Whether the task's input is a spool, be it complete or not."""
        return "spooled" in self._task.facts

    @property
    def open(self) -> bool:
        """Whether records are still to be written."""
        return self._task.facts.get("spooled") is False

    def progress(self) -> dict[str, Any] | None:
        """`{"written", "skipped", "total"}` while it is written; `total` is None where nobody knows."""
        if not self.open:
            return None
        poured = self._poured or Poured(0, 0, False)
        return {"written": poured.records, "skipped": poured.skipped, "total": self._total}

    def accept(self) -> None:
        """A person says that a source which looks different is the one."""
        self._accepted = True

    async def run(self) -> None:
        """Write what is not there yet. Returns early when the task is not preparing any more.

        Raises InputError (the source changed, or cannot be read), OSError (of the task's folder),
        sqlite3.Error.
        """
        task, origin = self._task, self.origin
        assert origin is not None  # noqa: S101  `open` says so
        if self._accepted:
            self._accepted = False
            pinned = await asyncio.to_thread(self._look, origin)
            origin = origin._replace(pin=pinned)
            await task.db.set_facts(source=origin.to_json())
            task.facts["source"] = origin.to_json()
        stop = threading.Event()
        loop = asyncio.get_running_loop()

        def stopped() -> bool:
            return stop.is_set() or task.state != states.PREPARING or task.cancelling or task.forgotten

        def tell(poured: Poured) -> None:
            self._poured = poured
            loop.call_soon_threadsafe(task.changed)

        try:
            pin, poured = await in_thread(lambda: self._write(origin, stopped, tell), stop)
        except SpoolStopped:
            return
        facts: dict[str, Any] = {"pin": pin.to_json(), "spooled": True, "skipped": poured.skipped}
        facts["spooled_records"] = poured.records
        if poured.more:  # what test_lines leaves out was not counted
            left = max(1, (self._total or 0) - poured.records - poured.skipped)
            facts |= {"left_out": left, "left_out_exact": self._total is not None and not origin.done}
        await task.db.set_facts(**facts)
        failpoint("spool.committed")
        task.facts |= facts
        task.pin = pin
        task.log(20, f"the input was written to {SPOOL}: {poured.records} records, {pin.size} bytes")
        if poured.skipped:
            task.log(20, f"{poured.skipped} records were left out: {origin.done} answers them")
        task.directory.unlink(STDIN)

    def _look(self, origin: Origin) -> dict[str, Any]:
        try:
            return self._source(origin).pin()
        except OSError as error:
            raise unreadable(error) from error

    def _source(self, origin: Origin) -> Source:
        spec = origin.spec
        if spec.path == STDIN_NAME:
            spec = msgspec.structs.replace(spec, path=str(self._task.directory.path / STDIN))
        resolved = self._task.resolved
        if resolved is None:
            return open_source(spec)
        return open_source(spec, resolved.s3, resolved.config.input.max_line_bytes)

    def _write(self, origin: Origin, stopped: Any, tell: Any) -> tuple[Pin, Poured]:
        task = self._task
        source = self._source(origin)
        self._check(source, origin)
        try:
            self._total = source.count()
        except OSError as error:
            raise unreadable(error) from error
        done = self._done(origin)
        file = LineFile(task.directory, SPOOL)
        try:
            poured = pour(source, SpoolSink(file), done=done, limit=task.test_lines, stop=stopped, tell=tell)
            self._check(source, origin)
            info = file.stat()
        finally:
            file.close()
        task.directory.sync()
        path = str(task.directory.path / SPOOL)
        return Pin(path, info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns), poured

    def _check(self, source: Source, origin: Origin) -> None:
        """Raises InputError unless the source is what it was at submit."""
        try:
            now = source.pin()
        except OSError as error:
            raise unreadable(error) from error
        if origin.spec.path != STDIN_NAME and now != origin.pin:
            raise InputError(
                Text(
                    "the input {path} has been changed or replaced since the submit; "
                    "batch_infer -resume {id} goes on with it as it is now",
                    {"path": origin.spec.path, "id": self._task.id},
                )
            )

    def _done(self, origin: Origin) -> frozenset[str]:
        if origin.done is None:
            return frozenset()
        try:
            return frozenset(done_ids(origin.done, back_up=False)[0])
        except OSError as error:
            raise unreadable(error) from error
