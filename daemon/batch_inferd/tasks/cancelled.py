"""Ending a cancelled task: what is under way is waited for, bounded, and every open record gets an end.

A batch that has not ended upstream by then may still bring results that were paid for: they are collected
when it ends, now or with the next daemon, in a round of their own, and the outputs are published again.
"""

from __future__ import annotations

import logging
import sqlite3
from typing import TYPE_CHECKING

from batch_inferd.batches.submission import ENDED
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.store.taskdb import Damaged
from batch_inferd.tasks import closing, states
from batch_inferd.tasks.threads import in_thread

if TYPE_CHECKING:
    from batch_inferd.batches.run import BatchRun
    from batch_inferd.store.taskdb import ChunkRow
    from batch_inferd.tasks.task import Task

_GRACE_S = 10.0  # how long calls in flight may still answer
_PAGE = 64
_BLOCKED_S = 600.0
_AGAIN_S, _AGAIN_MAX_S = 60.0, 6 * 3600.0  # between two tries, each of which merges all of the task


async def close(task: Task) -> None:
    """Wait for what is under way, then give every open record its terminal. Raises OSError, sqlite3.Error."""
    if task.batch is not None:
        task.batch.cancelling = True  # nothing is created any more, also while leases end
    await _wait_for_leases(task, _GRACE_S)
    if task.leases:
        task.context.dispatcher.end_task(task, "abort")
        await _wait_for_leases(task, None)
    if task.batch is not None:
        await _close_batches(task, task.batch)
    while rows := await _not_done(task):
        for row in rows:
            counts = await in_thread(lambda row=row: closing.close_chunk(task, row))  # type: ignore[misc]
            failpoint("cancel.closed")
            await task.db.finish_chunk(row.n, counts)
            task.progress.finished_open(row, counts)
            task.changed()


async def _not_done(task: Task) -> list[ChunkRow]:
    # Chunks of batches that have not ended are `leased`; nobody has them in hand any more.
    return await task.db.page(0, _PAGE, "ready") or await task.db.page(0, _PAGE, "leased")


async def _wait_for_leases(task: Task, seconds: float | None) -> None:
    clock = task.context.clock
    deadline = None if seconds is None else clock.monotonic() + seconds
    while task.leases and (deadline is None or clock.monotonic() < deadline):
        await task.rest_or_wake(0.5, anew=True)


async def _close_batches(task: Task, batch: BatchRun) -> None:
    """Cancel the batches upstream and collect them; what has not ended in time comes later."""
    if task.plan is None:
        late = len(await batch.store.open())
    else:
        only_ended = bool(task.facts.get("late"))  # the others were waited for once
        if only_ended and task.facts.get("late_round") != task.round:
            late = len(await batch.store.open())  # their lines have ended in this round: they get another one
        else:
            await batch.finish_cancelled(batch.cancel_s, only_ended=only_ended)
            late = batch.left_open
    if late:
        task.log(logging.WARNING, f"{late} batches have not ended: they may still cost money{_why(task)}")
    task.trouble = None
    await task.db.set_facts(late=late)
    task.facts["late"] = late


async def look_late(task: Task, batch: BatchRun) -> None:
    """Follow the batches of a cancelled task until one has ended; then open the task once more for it."""
    task.log(
        logging.INFO, f"{task.facts['late']} batches had not ended when it was cancelled: they are followed"
    )
    while not await _look(task, batch):
        await task.context.clock.sleep(_BLOCKED_S)  # a refused key may be accepted again


async def _look(task: Task, batch: BatchRun) -> bool:
    """False when nothing came of it, and it is worth another look."""
    try:
        async with task.opened():
            if await batch.look_late():  # they could not be collected just now
                await task.context.clock.sleep(min(_AGAIN_S * 2.0 ** min(batch.late_tries, 32), _AGAIN_MAX_S))
                batch.late_tries += 1
            else:
                batch.late_tries = 0
            ended = [one for one in batch.open.values() if one.state == ENDED]
            chunks = sorted({chunk for one in ended for chunk in one.lines})
            none_left = not batch.open
            await batch.stop()
            if not ended:
                if none_left:
                    await task.db.set_facts(late=0)
                    task.facts["late"] = 0
                return none_left
            again = {"cancel": True, "round": task.round + 1, "late_round": task.round + 1}
            facts = states.AGAIN | again | {"late": task.facts["late"]}
            await batch.store.reopen(chunks, **facts)
            failpoint("batch.late_opened")
            task.log(logging.INFO, f"{len(ended)} batches have ended after the cancel: they are collected")
            task.facts |= facts
            task.state, task.reason = states.RUNNING, None
            task.progress.reopened(await task.db.totals())
            await task.supply.reset()
    except (OSError, sqlite3.Error, Damaged) as error:
        task.log(logging.ERROR, f"late results cannot be collected: {error}")
        return not task.directory.still_there()
    task.go_on_closing()
    return True


def _why(task: Task) -> str:
    return f" ({task.trouble.text})" if task.trouble is not None else ""
