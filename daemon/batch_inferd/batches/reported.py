"""What a report says of a task's batches: the `batches` of docs/report.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from batch_inferd.batches.submission import Detail

if TYPE_CHECKING:
    from batch_inferd.store.submissions import SubmissionRow, SubmissionStore
    from batch_inferd.tasks.money import TaskMoney

MOST = 1000  # that are listed: a task may have a hundred thousand


async def reported(store: SubmissionStore, money: TaskMoney) -> dict[str, Any]:
    """All submissions in sums, and the first of them one by one, as they stand in task.db.

    Call it when the price is settled. Raises sqlite3.Error.
    """
    found = await store.results()
    del found["answered"]
    totals = await store.totals()
    rows = [_row(row, money) for row in await store.first(MOST)]
    return {
        "submissions": totals,
        **found,
        "currency": money.price.currency if money.price is not None else None,
        "left_out": max(0, sum(totals.values()) - len(rows)),
        "list": rows,
    }


def _row(row: SubmissionRow, money: TaskMoney) -> dict[str, Any]:
    """With the names of `-status`. Nothing in it depends on when it is asked."""
    detail = msgspec.convert(row.detail, Detail)
    return {
        "submission": row.id,
        "batch": row.upstream_id,
        "state": row.state,
        "round": detail.round,
        "requests": detail.requests,
        "results": detail.results,
        "cost": money.of_batch(detail),
    }
