"""`cost`: what tasks have cost, by day, a page of tasks at a time; the client adds it up."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import TaskNotFound
from batch_inferd.money.removed import RemovedCosts
from batch_inferd.requests.params import limit
from batch_inferd.store.taskdb import Damaged
from batch_inferd.tasks.bill import bill_of

if TYPE_CHECKING:
    from batch_inferd.app import App
    from batch_inferd.server.peer import Peer

_log = logging.getLogger(__name__)
_BYTES = 256 * 1024  # of a page


async def handle(app: App, params: dict[str, Any], _peer: Peer) -> dict[str, Any]:
    """`{tasks: [bill…], next}`: see `bill_of`; first those that are there, then those that were removed.

    `task_id`: only that one; if it is gone, those of that id that were removed. `cursor` is the `next` of
    the page before: a name, or a number among the removed ones. Raises TaskNotFound, InputError.
    """
    removed = RemovedCosts(app.context.workspace.costs)
    if isinstance(params.get("task_id"), str):
        return {"tasks": await _of(app, params["task_id"], removed), "next": None}
    await app.registry.discover()
    cursor = params.get("cursor")
    if isinstance(cursor, int):
        living = {task.uuid for task in app.registry.tasks.values()}
        page = await asyncio.to_thread(removed.page, cursor, limit(params), _BYTES, living)
        return {"tasks": page.bills, "next": page.next}
    names = sorted(app.registry.tasks)
    start = bisect_right(names, cursor) if isinstance(cursor, str) else 0
    rows: list[dict[str, Any]] = []
    seen, size = start, 0
    for name in names[start : start + limit(params)]:
        task = app.registry.tasks.get(name)
        seen += 1
        if task is None:
            continue
        try:
            rows.append(await bill_of(task))
        except (OSError, sqlite3.Error, Damaged) as error:  # it was removed meanwhile, or is sick
            _log.warning("the cost of task %s cannot be read: %s", name, error)
            continue
        size += len(json.dumps(rows[-1]))
        if size > _BYTES:
            break
    return {"tasks": rows, "next": names[seen - 1] if seen < len(names) else 0}


async def _of(app: App, task_id: str, removed: RemovedCosts) -> list[dict[str, Any]]:
    try:
        task = await app.registry.find(task_id)
    except TaskNotFound:
        bills = await asyncio.to_thread(removed.of, task_id, limit({}))
        if not bills:
            raise
        return bills
    return [await bill_of(task)]
