"""`list`: the tasks of the workspace, by name, a page at a time."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from batch_inferd.requests.params import limit
from batch_inferd.tasks.summary import summary

if TYPE_CHECKING:
    from batch_inferd.app import App
    from batch_inferd.server.peer import Peer

_PAGE = 200  # summaries of about 1.5 KB: far below a frame's cap


async def handle(app: App, params: dict[str, Any], _peer: Peer) -> dict[str, Any]:
    """`{tasks: [SUMMARY…], next: name | null}`; `cursor` is the last name of the page before."""
    await app.registry.discover()
    names = sorted(app.registry.tasks)
    cursor = params.get("cursor")
    start = bisect_right(names, cursor) if isinstance(cursor, str) else 0
    page = names[start : start + min(limit(params), _PAGE)]
    more = start + len(page) < len(names)
    return {
        "tasks": [summary(app.registry.tasks[name]) for name in page],
        "next": page[-1] if more and page else None,
    }
