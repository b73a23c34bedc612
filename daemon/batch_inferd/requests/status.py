"""`status`: one task and a page of its chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_inferd.batches import rows as batch_rows
from batch_inferd.requests.params import limit, string
from batch_inferd.requests.submissions import SUBMISSIONS_PAGE
from batch_inferd.tasks.summary import chunk_summary, summary

if TYPE_CHECKING:
    from batch_inferd.app import App
    from batch_inferd.server.peer import Peer


async def handle(app: App, params: dict[str, Any], _peer: Peer) -> dict[str, Any]:
    """SUMMARY with `chunks` and `next`; `cursor` is the last chunk number of the page before.

    `submissions` has the newest page of them, `{rows, next}`.
    """
    task = await app.registry.find(string(params, "task_id"))
    cursor = params.get("cursor")
    size = limit(params)
    async with task.opened():
        rows = await task.db.page(cursor if isinstance(cursor, int) else 0, size)
        submissions: dict[str, Any] = {"rows": [], "next": None}
        if task.batch is not None:
            submissions = await batch_rows.page(task.batch, None, min(size, SUBMISSIONS_PAGE))
    chunks = [chunk_summary(task, row) for row in rows]
    following = rows[-1].n if len(rows) == size else None
    return summary(task) | {"chunks": chunks, "next": following, "submissions": submissions}
