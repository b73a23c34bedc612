"""A task's reading of its input: cutting ahead, and noticing that the file is not what was pinned."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING

from batch_infer.protocol.errors import InputError
from batch_infer.protocol.text import Text
from batch_inferd.intake import cutter
from batch_inferd.intake.source import Pin, count_records, open_pinned, pin
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.tasks.spooling import open_spool
from batch_inferd.tasks.threads import in_thread

if TYPE_CHECKING:
    from batch_inferd.store.taskdb import ChunkRow
    from batch_inferd.tasks.task import Task

_COUNT_LIMIT = 1 << 30  # bytes read to count what test_lines leaves out
_BATCH_MAX = 32


class Reading:
    """Where the cutting of one task stands. All methods are called by the task's driver only."""

    def __init__(self, task: Task) -> None:
        stored = task.facts.get("position")
        self.position = cutter.Position(**stored) if stored else cutter.START
        self._task = task
        self._batch = 1  # the first chunk leaves soon, later ones come in bulk
        self._seen: Pin | None = None  # the file as it was looked at last, and found good
        self._accepted = False

    @property
    def complete(self) -> bool:
        """Whether everything that belongs to the task was cut."""
        if self._task.spooling.open:
            return False
        return cutter.is_end(self.position, self._task.pin.size, self._task.test_lines)

    def accept(self) -> None:
        """A person says that a file which looks different is the one: only what was cut is compared."""
        self._accepted = True

    async def cut(self, ahead: int) -> list[ChunkRow]:
        """Cut and commit the next chunks, at most `ahead`. Raises InputError, OSError, sqlite3.Error."""
        task = self._task
        await self._check()
        count = min(self._batch, ahead)
        self._batch = min(_BATCH_MAX, self._batch * 2)
        stop = threading.Event()
        used = task.spooling.used
        source = open_spool(task.directory, task.pin) if used else open_pinned(task.pin)
        try:
            rows, position = await in_thread(
                lambda: cutter.cut(
                    task.directory,
                    source,
                    task.pin.size,
                    self.position,
                    per_chunk=int(task.config["config"]["lines_per_chunk"]),
                    limit=task.test_lines,
                    count=count,
                    stop=stop.is_set,
                ),
                stop,
            )
        except cutter.InputShrunk as error:
            raise _shorter(task.pin.path) from error
        finally:
            os.close(source)
        await task.db.add_chunks(rows, position=position._asdict())
        failpoint("cut.committed")
        task.facts["position"] = position._asdict()
        self.position = position
        return rows

    async def _check(self) -> None:
        """Compare the file with what was pinned, whenever it looks different from the last time."""
        task, pinned = self._task, self._task.pin
        if task.spooling.used:
            return  # nobody but us writes it
        now = await asyncio.to_thread(pin, pinned.path)
        if now == self._seen:
            return
        if now.size < pinned.size:
            raise _shorter(pinned.path)
        same_file = (now.device, now.inode) == (pinned.device, pinned.inode)
        appended = same_file and now.size > pinned.size  # later bytes are not the task's
        if now != pinned and not appended and not self._accepted:
            raise InputError(
                Text(
                    "the input {path} has been changed or replaced since the submit; "
                    "batch_infer -resume {id} goes on if what was read of it is the same",
                    {"path": pinned.path, "id": task.id},
                )
            )
        if now != pinned and (self._seen is None or not appended):
            await self._compare()
        if self._accepted:
            task.pin = now._replace(size=pinned.size)
            await task.db.set_facts(pin=task.pin.to_json())
            self._accepted = False
        self._seen = now

    async def _compare(self) -> None:
        task = self._task
        if not self.position.offset:
            return
        rows = await task.db.pages_all()
        stop = threading.Event()
        source = open_pinned(task.pin)
        try:
            bad = await in_thread(lambda: cutter.verify(task.directory, source, rows, stop=stop.is_set), stop)
        finally:
            os.close(source)
        if bad is not None:
            raise InputError(
                Text(
                    "the input {path} is another one than at the submit (chunk {chunk} differs)",
                    {"path": task.pin.path, "chunk": bad},
                )
            )
        task.log(30, "the input file was touched; what was read of it is unchanged")

    async def count_left_out(self) -> None:
        """Count what test_lines leaves out, for the report; unknown where the file cannot be read."""
        task = self._task
        if not task.test_lines or self.position.offset >= task.pin.size or "left_out_exact" in task.facts:
            return
        stop = threading.Event()
        try:
            count, exact = await in_thread(
                lambda: count_records(
                    task.pin.path, self.position.offset, task.pin.size, stop.is_set, _COUNT_LIMIT
                ),
                stop,
            )
        except OSError as error:
            task.log(30, f"what test_lines leaves out cannot be counted: {error}")
            count, exact = 0, False
        await task.db.set_facts(left_out=count, left_out_exact=exact)
        task.facts |= {"left_out": count, "left_out_exact": exact}


def _shorter(path: str) -> InputError:
    return InputError(Text("the input {path} has become shorter", {"path": path}))
