"""What merging asks of a task: its chunks as merge knows them, what its report says, and where it writes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import threading
from typing import TYPE_CHECKING

from batch_inferd.batches.reported import reported
from batch_inferd.merge.chunk import MergeChunk, Sealed
from batch_inferd.merge.merge import End, MergeResult, merge_task
from batch_inferd.merge.report import Header
from batch_inferd.seams.files import Directory
from batch_inferd.tasks import states
from batch_inferd.tasks.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batch_inferd.store.taskdb import ChunkRow
    from batch_inferd.tasks.task import Task

_PAGE = 1000


async def merge(
    task: Task, merged: Directory, generation: int, *, ended: float, progress: Callable[[int], None]
) -> MergeResult:
    """Stage generation G of the outputs in `merged`, as of a task that ended at `ended` (unix seconds).

    `progress` is called in a thread with the number of chunks done. The same journals and the same time
    give the same files, byte for byte. Raises OSError, sqlite3.Error.
    """
    loop = asyncio.get_running_loop()
    stop = threading.Event()
    end = await end_of(task, ended)
    return await in_thread(
        lambda: merge_task(
            task.directory,
            merged,
            lambda _: (merge_chunk(row) for page in pages_after(task, 0, loop) for row in page),
            generation=generation,
            round=task.round,
            end=lambda: end,
            cancelled=is_cancelled(task),
            price=end.header.price,
            progress=progress,
            stop=stop,
        ),
        stop,
    )


async def end_of(task: Task, ended: float) -> End:
    """What the report says of a task that ended at `ended` (unix seconds). Raises sqlite3.Error."""
    position = task.reading.position
    await task.money.settled()
    await task.budget.written()
    batches = None if task.batch is None else await reported(task.batch.store, task.money)
    cancelled = is_cancelled(task)
    header = Header(
        task_id=task.id,
        uuid=task.uuid,
        state=states.CANCELLED if cancelled else states.COMPLETED,
        started=task.facts.get("started"),
        ended=ended,
        left_out=int(task.facts.get("left_out") or 0),
        skipped=int(task.facts.get("skipped") or 0),
        unread=unread(task) if cancelled else None,
        backend=task.backend,
        batches=batches,
        price=task.money.price,
        budget=task.budget.to_json(),
    )
    return End(header, task.pin.size if position.offset >= task.pin.size else None)


def is_cancelled(task: Task) -> bool:
    """Whether what its report says is that of a cancelled task."""
    return bool(task.facts.get("cancel"))


def pages_after(task: Task, chunk: int, loop: asyncio.AbstractEventLoop) -> Iterator[list[ChunkRow]]:
    """The task's chunks behind one, in order. In any thread but that of `loop`, which is the task's."""
    while True:
        page = asyncio.run_coroutine_threadsafe(task.db.page(chunk, _PAGE), loop).result()
        yield page
        if len(page) < _PAGE:
            return
        chunk = page[-1].n


def merge_chunk(row: ChunkRow) -> MergeChunk:
    """A chunk of the database as merge knows it."""
    sealed = None
    if row.state == "done":
        sealed = Sealed(row.records, row.answered, row.error, row.missing, row.blank)
    return MergeChunk(row.n, row.first_line, row.lines, row.bytes, sealed, row.opened)


def unread(task: Task) -> dict[str, int] | None:
    """Where a cancelled task stopped reading; None when it had read all."""
    position = task.reading.position
    return None if task.input_complete else {"line": position.line, "byte": position.offset}


def check_there(task: Task) -> None:
    """Raises FileNotFoundError when the task's folder was removed."""
    if task.forgotten or not task.directory.still_there():
        raise FileNotFoundError(errno.ENOENT, "the task's folder was removed", str(task.directory.path))


def open_merged(task: Task) -> Directory:
    """The folder of the task's outputs, which is made if need be. Raises OSError."""
    path = task.context.workspace.merged / task.id
    check_there(task)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    return Directory(path)
