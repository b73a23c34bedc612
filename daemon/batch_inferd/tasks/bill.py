"""The bill of a task: what it has cost, in all and by day. `-cost` adds bills up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from batch_inferd.money.cost import cost_json
from batch_inferd.money.used import Used

if TYPE_CHECKING:
    from batch_inferd.money.prices import Price
    from batch_inferd.tasks.task import Task

# Of a task's `cost`, what is no cost: what it may cost at most, and what is under way.
_NOT_BILLED = frozenset({"budget", "committed"})


async def bill_of(task: Task, removed: float | None = None) -> dict[str, Any]:
    """`{task_id, model, service, state, removed, answered, tokens, cost, days}`.

    `removed` is when the task is removed, in seconds since 1970. What is not committed yet counts for
    today. `cost` has no `budget` and no `committed`. Raises OSError, sqlite3.Error, Damaged.
    """
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
        "removed": removed,
        **_part(used),
        "cost": _cost(used, price),
        "days": [{"day": day, **_part(one), "cost": _cost(one, price)} for day, one in sorted(days.items())],
    }


def _cost(used: Used, price: Price | None) -> dict[str, Any] | None:
    cost = cost_json(used, price)
    return None if cost is None else {name: cost[name] for name in cost if name not in _NOT_BILLED}


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
