"""A task's end: merge, commit the publication, rename, commit the end state; and doing the rest again."""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.text import Text
from batch_inferd.merge.publish import StageLost, discard_stage, publish, redo
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.tasks import exporting, merging, states
from batch_inferd.tasks.states import Reason
from batch_inferd.tasks.threads import in_thread

if TYPE_CHECKING:
    from batch_inferd.merge.merge import MergeResult
    from batch_inferd.tasks.task import Task


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
    merged = await asyncio.to_thread(merging.open_merged, task)
    loop = asyncio.get_running_loop()

    def progress(done: int) -> None:
        total = sum(task.progress.chunks.values())
        task.merge_share = done / total if total else 1.0
        if done % 64 == 0:
            loop.call_soon_threadsafe(task.changed)

    try:
        result = await task.early.finish(merged, generation, ended, progress) or await merging.merge(
            task, merged, generation, ended=ended, progress=progress
        )
        end = _end_facts(task, result, cancelled, ended)
        try:
            files = result.files | await exporting.write_formats(task, merged, generation, end)
            merging.check_there(task)
            await task.db.commit_publication(
                generation, {"files": files, "end": end}, task.context.clock.now()
            )
        except BaseException:
            await in_thread(lambda: discard_stage(merged, generation))  # it would keep a full disk full
            raise
        try:
            merging.check_there(task)
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
        merged = await asyncio.to_thread(merging.open_merged, task)
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


def _end_facts(task: Task, result: MergeResult, cancelled: bool, ended: float) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "ended": ended,
        "identity": result.identity,
        "generation": result.generation,
        "paths": dict(result.tally.paths),
        "unread": merging.unread(task) if cancelled else None,
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
