"""`cost`: what tasks have cost, by day, a page of tasks at a time; the client adds it up."""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from batch_inferd.money.cost import cost_json
from batch_inferd.money.used import Used
from batch_inferd.requests.params import limit
from batch_inferd.store.taskdb import Damaged

if TYPE_CHECKING:
    from batch_inferd.app import App
    from batch_inferd.server.peer import Peer
    from batch_inferd.tasks.task import Task

_log = logging.getLogger(__name__)
_BYTES = 256 * 1024  # of a page


async def handle(app: App, params: dict[str, Any], _peer: Peer) -> dict[str, Any]:
    """`{tasks: [{task_id, model, service, cost, tokens, answered, days}…], next: name | null}`.

    `task_id`: only that one. `cursor` is the last name of the page before. Raises TaskNotFound.
    """
    if isinstance(params.get("task_id"), str):
        return {"tasks": [await _row(await app.registry.find(params["task_id"]))], "next": None}
    await app.registry.discover()
    names = sorted(app.registry.tasks)
    cursor = params.get("cursor")
    start = bisect_right(names, cursor) if isinstance(cursor, str) else 0
    rows: list[dict[str, Any]] = []
    seen, size = start, 0
    for name in names[start : start + limit(params)]:
        task = app.registry.tasks.get(name)
        seen += 1
        if task is None:
            continue
        try:
            rows.append(await _row(task))
        except (OSError, sqlite3.Error, Damaged) as error:  # it was removed meanwhile, or is sick
            _log.warning("the cost of task %s cannot be read: %s", name, error)
            continue
        size += len(json.dumps(rows[-1]))
        if size > _BYTES:
            break
    return {"tasks": rows, "next": names[seen - 1] if seen < len(names) else None}


async def _row(task: Task) -> dict[str, Any]:
    """One task. What is not committed yet counts for today. Raises OSError, sqlite3.Error, Damaged."""
    async with task.opened():
        await task.money.settled()
        price = task.money.price
        days = {day: Used.of(counts.__getitem__) for day, counts in await task.db.spending()}
    used = task.money.used
    rest = used - sum(days.values(), Used())
    if any(rest):
        today = time.strftime("%Y-%m-%d", time.localtime())
        days[today] = days.get(today, Used()) + rest
    return {
        "task_id": task.id,
        "model": task.model,
        "service": str(task.config["service"]),
        "state": task.state,
        **_part(used),
        "cost": cost_json(used, price),
        "days": [
            {"day": day, **_part(one), "cost": cost_json(one, price)} for day, one in sorted(days.items())
        ],
    }


def _part(used: Used) -> dict[str, Any]:
    return {
        "answered": used.answered,
        "tokens": {
            "input": used.input,
            "cached": used.cached,
            "output": used.output,
            "unknown": used.unknown,
        },
    }
