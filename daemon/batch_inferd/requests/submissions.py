"""`submissions`: a page of a task's upstream batches, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_inferd.batches import rows
from batch_inferd.requests.params import limit, string

if TYPE_CHECKING:
    from batch_inferd.app import App
    from batch_inferd.server.peer import Peer

SUBMISSIONS_PAGE = 200  # a row has about a thousand bytes, and a page goes into one frame


async def handle(app: App, params: dict[str, Any], _peer: Peer) -> dict[str, Any]:
    """`{rows, next}`; `cursor` is the last submission of the page before. Raises TaskNotFound."""
    task = await app.registry.find(string(params, "task_id"))
    cursor = params.get("cursor")
    if task.batch is None:
        return {"rows": [], "next": None}
    async with task.opened():
        before = cursor if isinstance(cursor, int) else None
        return await rows.page(task.batch, before, min(limit(params), SUBMISSIONS_PAGE))
