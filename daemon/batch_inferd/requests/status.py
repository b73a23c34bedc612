"""`status`: one task and a page of its chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_inferd.requests.params import limit, string
from batch_inferd.tasks.summary import chunk_summary, summary

if TYPE_CHECKING:
    from batch_inferd.app import App
    from batch_inferd.server.peer import Peer


async def handle(app: App, params: dict[str, Any], _peer: Peer) -> dict[str, Any]:
    """SUMMARY with `chunks` and `next`; `cursor` is the last chunk number of the page before."""
    task = await app.registry.find(string(params, "task_id"))
    cursor = params.get("cursor")
    size = limit(params)
    async with task.opened():
        rows = await task.db.page(cursor if isinstance(cursor, int) else 0, size)
    chunks = [chunk_summary(task, row) for row in rows]
    return summary(task) | {"chunks": chunks, "next": rows[-1].n if len(rows) == size else None}
