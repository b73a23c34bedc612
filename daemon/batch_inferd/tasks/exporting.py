"""Exports of tasks: a task as the exports read it, and what its config wants beside the outputs."""

from __future__ import annotations

import asyncio
import logging
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import UsageError
from batch_infer.protocol.exports import file_name
from batch_inferd.exports.export import write_export
from batch_inferd.exports.reading import Exported
from batch_inferd.merge.chunk import MergeChunk
from batch_inferd.merge.publish import stage_name
from batch_inferd.tasks.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from batch_inferd.merge.outputs import FileFacts
    from batch_inferd.seams.files import Directory
    from batch_inferd.tasks.task import Task

_PAGE = 1000


def exported(task: Task, **summary: Any) -> Exported:
    """The task for the exports, to be read in a thread while its database is open (`task.opened`).

    `summary` takes the place of what is said of it, as its state.
    """
    loop = asyncio.get_running_loop()

    def chunks() -> Iterator[MergeChunk]:
        after = 0
        while page := asyncio.run_coroutine_threadsafe(task.db.page(after, _PAGE), loop).result():
            for row in page:
                yield MergeChunk(row.n, row.first_line, row.lines, row.bytes, None, row.opened)
            after = page[-1].n

    def workers(chunk: int) -> Mapping[str, str]:
        return asyncio.run_coroutine_threadsafe(task.db.workers_of(chunk), loop).result()

    counts = task.progress.counts()
    return Exported(
        task_id=task.id,
        directory=task.directory,
        chunks=chunks,
        total=counts["input"],
        messages_key=str(task.config["messages_key"]),
        summary={
            "state": task.state,
            "model": task.model,
            "service": task.service,
            "input": task.input_name,
            "batch_id": task.facts.get("batch_id"),
            "started": task.facts.get("started"),
            "ended": task.facts.get("ended"),
            "round": task.round,
            "counts": counts,
        }
        | summary,
        workers=workers,
    )


async def write_formats(
    task: Task, merged: Directory, generation: int, end: dict[str, Any]
) -> dict[str, FileFacts]:
    """Write what `output.formats` names into the stage of a merged generation; name -> size and digest.

    `end` has the state and the time that the task is about to end with. Raises OSError, sqlite3.Error.
    """
    formats = task.config["config"]["output"].get("formats") or ()
    found: dict[str, FileFacts] = {}
    stop = threading.Event()
    source = exported(task, state=end["state"], ended=end["ended"])
    for form in formats:
        name = file_name(form)
        path = f"{stage_name(generation)}/{name}"
        try:
            written = await in_thread(partial(write_export, merged, path, [source], form, stop=stop), stop)
        except UsageError as error:  # pyarrow was there at submit; the outputs must not wait for it
            task.log(logging.WARNING, f"{name} is not written: {error}")
        else:
            found[name] = written.facts
    if found:
        await in_thread(lambda: merged.sync(stage_name(generation)))
    return found
