"""Asking for the tasks of a workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_infer.protocol import rpc
from batch_infer.protocol.text import Text

if TYPE_CHECKING:
    from batch_infer.cli.context import Context, Peer
    from batch_infer.render.shapes import Summary

_PAGE = 1000


def all_tasks(peer: Peer) -> list[Summary]:
    """All tasks, asked for page by page."""
    tasks: list[Summary] = []
    cursor: str | None = None
    while True:
        page = peer.call(rpc.LIST, {"cursor": cursor, "limit": _PAGE})
        tasks += page["tasks"]
        cursor = page["next"]
        if cursor is None:
            return tasks


def tell_empty(context: Context) -> None:
    """Say that there is nothing to show."""
    context.console.tell(
        Text("there is no task in the workspace {path}", {"path": str(context.workspace.root)})
    )
