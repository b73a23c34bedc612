"""`list`: the tasks of the workspace, by name, a page at a time."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from batch_inferd.requests.pages import summaries
from batch_inferd.requests.params import limit

if TYPE_CHECKING:
    from batch_inferd.app import App
    from batch_inferd.server.peer import Peer


async def handle(app: App, params: dict[str, Any], _peer: Peer) -> dict[str, Any]:
    """`{tasks: [SUMMARY…], next: name | null}`; `cursor` is the last name of the page before."""
    await app.registry.discover()
    names = sorted(app.registry.tasks)
    cursor = params.get("cursor")
    start = bisect_right(names, cursor) if isinstance(cursor, str) else 0
    rows = summaries(app.registry.tasks[name] for name in names[start : start + limit(params)])
    more = start + len(rows) < len(names)
    return {"tasks": rows, "next": rows[-1]["task_id"] if more and rows else None}
