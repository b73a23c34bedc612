"""A task's end: merge, commit the publication, rename, commit the end state; and doing the rest again."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import threading
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.text import Text
from batch_inferd.merge.chunk import MergeChunk, Sealed
from batch_inferd.merge.merge import MergeResult, merge_task
from batch_inferd.merge.publish import StageLost, discard_stage, publish, redo
from batch_inferd.merge.report import Header
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.seams.files import Directory
from batch_inferd.tasks import exporting, states
from batch_inferd.tasks.states import Reason
from batch_inferd.tasks.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batch_inferd.store.taskdb import ChunkRow
    from batch_inferd.tasks.task import Task

_PAGE = 1000


async def merge_and_publish(task: Task) -> None:
    """Merge all chunks and publish the next generation; the task has ended when this returns.

    Raises OSError, sqlite3.Error: the task is paused then and merged again later.
    """
    await task.set_state(states.MERGING)
    cancelled = bool(task.facts.get("cancel"))
    generation = int(task.facts.get("generation", 0)) + 1
    # A publication that was committed and then failed is void: its stage goes with the new merge.
    await task.db.drop_publication(generation)
    ended = task.context.clock.now()
    merged = await asyncio.to_thread(open_merged, task)
    loop = asyncio.get_running_loop()

    def progress(done: int) -> None:
        total = sum(task.progress.chunks.values())
        task.merge_share = done / total if total else 1.0
        if done % 64 == 0:
            loop.call_soon_threadsafe(task.changed)

    try:
        result = await merge(task, merged, generation, ended=ended, progress=progress)
        end = _end_facts(task, result, cancelled, ended)
        try:
            files = result.files | await exporting.write_formats(task, merged, generation, end)
            _check_there(task)
            await task.db.commit_publication(
                generation, {"files": files, "end": end}, task.context.clock.now()
            )
        except BaseException:
            await in_thread(lambda: discard_stage(merged, generation))  # it would keep a full disk full
            raise
        try:
            _check_there(task)
            await in_thread(lambda: publish(merged, generation, files))
        except StageLost as error:  # somebody was in the folder: nothing was renamed, merge again
            raise OSError(errno.EIO, str(error)) from error
    finally:
        merged.close()
    _log_end(task, result)
    await _finish(task, generation, end)


async def redo_publication(task: Task) -> bool:
    """After a crash between commit and end: rename what is still staged. True when that ended the task."""
    found = await task.db.open_publication()
    if found is None:
        return False
    generation, stored = found
    try:
        merged = await asyncio.to_thread(open_merged, task)
        try:
            await in_thread(lambda: redo(merged, generation, stored["files"]))
        finally:
            merged.close()
    except StageLost as error:
        task.log(logging.WARNING, f"{error}; the outputs are merged again")
        await task.db.drop_publication(generation)
        return False
    await _finish(task, generation, stored["end"])
    return True


async def merge(
    task: Task, merged: Directory, generation: int, *, ended: float, progress: Callable[[int], None]
) -> MergeResult:
    """Stage generation G of the outputs in `merged`, as of a task that ended at `ended` (unix seconds).

    `progress` is called in a thread with the number of chunks done. The same journals and the same time
    give the same files, byte for byte. Raises OSError, sqlite3.Error.
    """
    cancelled = bool(task.facts.get("cancel"))
    stop = threading.Event()
    loop = asyncio.get_running_loop()

    def rows() -> Iterator[MergeChunk]:
        after = 0
        while True:
            page = asyncio.run_coroutine_threadsafe(task.db.page(after, _PAGE), loop).result()
            for row in page:
                yield _merge_chunk(row)
            if len(page) < _PAGE:
                return
            after = page[-1].n

    position = task.reading.position
    await task.money.settled()
    batches = None
    if task.batch is not None:
        found = await task.batch.store.results()
        del found["answered"]
        batches = {"submissions": await task.batch.store.totals(), **found}
    header = Header(
        task_id=task.id,
        uuid=task.uuid,
        state=states.CANCELLED if cancelled else states.COMPLETED,
        started=task.facts.get("started"),
        ended=ended,
        left_out=int(task.facts.get("left_out") or 0),
        unread=_unread(task) if cancelled else None,
        backend=task.backend,
        batches=batches,
        price=task.money.price,
    )
    return await in_thread(
        lambda: merge_task(
            task.directory,
            merged,
            rows(),
            generation=generation,
            round=task.round,
            header=header,
            input_bytes=task.pin.size if position.offset >= task.pin.size else None,
            progress=progress,
            stop=stop,
        ),
        stop,
    )


def _unread(task: Task) -> dict[str, int] | None:
    """Where a cancelled task stopped reading; None when it had read all."""
    position = task.reading.position
    return None if task.input_complete else {"line": position.line, "byte": position.offset}


def _merge_chunk(row: ChunkRow) -> MergeChunk:
    sealed = None
    if row.state == "done":
        sealed = Sealed(row.records, row.answered, row.error, row.missing, row.blank)
    return MergeChunk(row.n, row.first_line, row.lines, row.bytes, sealed, row.opened)


def _check_there(task: Task) -> None:
    if task.forgotten or not task.directory.still_there():
        raise FileNotFoundError(errno.ENOENT, "the task's folder was removed", str(task.directory.path))


def open_merged(task: Task) -> Directory:
    """The folder of the task's outputs, which is made if need be. Raises OSError."""
    path = task.context.workspace.merged / task.id
    _check_there(task)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    return Directory(path)


def _end_facts(task: Task, result: MergeResult, cancelled: bool, ended: float) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "ended": ended,
        "identity": result.identity,
        "generation": result.generation,
        "paths": dict(result.tally.paths),
        "unread": _unread(task) if cancelled else None,
    }
    if result.identity:
        return facts | {"state": states.CANCELLED if cancelled else states.COMPLETED, "reason": None}
    text = Text(
        "the accounting does not hold: {count} problems, the first: {first}; see report.json",
        {"count": result.problem_count, "first": result.problems[0] if result.problems else "?"},
    )
    return facts | {
        "state": states.FAILED,
        "reason": Reason("identity", text).to_json(),
        "problem_chunks": result.problem_chunks,
    }


async def _finish(task: Task, generation: int, end: dict[str, Any]) -> None:
    await task.db.finish_publication(generation, task.context.clock.now(), end)
    failpoint("publish.done")
    task.facts |= end
    task.state = str(end["state"])
    task.reason = Reason.from_json(end.get("reason"))
    task.context.dispatcher.remove(task)
    task.log(logging.INFO, f"state {states.MERGING} -> {task.state}")
    task.changed()


def _log_end(task: Task, result: MergeResult) -> None:
    counts, tally = result.counts, result.tally
    level = logging.INFO if result.identity else logging.ERROR
    task.log(level, f"counts: {counts.to_json()}; identity: {result.identity}")
    for problem in result.problems[:20]:
        task.log(logging.ERROR, f"identity problem: {problem}")
    task.log(
        logging.INFO,
        f"tokens: {tally.tokens_in} in, {tally.tokens_out} out, {tally.tokens_unknown} without usage; "
        f"retries: {tally.retries}; failed attempts by class: {dict(tally.failures)}",
    )
    cost = task.money.cost()
    if cost is not None:
        known = "unknown" if cost["spent"] is None else f"{cost['spent']:.6f} {cost['currency']}"
        task.log(logging.INFO, f"cost: {known}, {cost['unknown_records']} answers without usage not in it")
    for name, facts in result.files.items():
        task.log(logging.INFO, f"{name}: {facts['bytes']} bytes, sha256 {facts['sha256']}")
