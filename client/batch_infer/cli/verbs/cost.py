"""-cost: what tasks have cost, by model, by day, by task, and in total."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.cli.tasks import tell_empty
from batch_infer.protocol import rpc
from batch_infer.protocol.errors import EXIT_DONE
from batch_infer.render.cost_text import cost_lines
from batch_infer.render.costs import public_costs

if TYPE_CHECKING:
    from batch_infer.cli.context import Context, Peer
    from batch_infer.cli.request import Request

# Prices may have to be looked up, for each model once.
_PATIENCE_S = 180.0
_PAGE = 1000


def run(context: Context, request: Request) -> int:
    """Show the costs of one task, or of all tasks that are or were in the workspace."""
    task_id = request.ids[0] if request.ids else None
    if task_id is not None:
        context.check_known(task_id)
    with context.daemon_of_tasks(context.workspace.costs) as peer:
        if peer is not None:
            rows = _rows(peer, **({} if task_id is None else {"task_id": task_id}))
        elif task_id is not None:
            raise context.not_found(task_id)
        else:
            rows = []
    if request.as_json:
        context.console.json(public_costs(rows))
    elif rows:
        for line in cost_lines(rows, context.lang):
            context.console.data(line)
    else:
        tell_empty(context)
    return EXIT_DONE


def _rows(peer: Peer, **params: Any) -> list[dict[str, Any]]:
    """The rows of all tasks that are asked for, page by page."""
    rows: list[dict[str, Any]] = []
    cursor: str | int | None = None
    while True:
        page = peer.call(rpc.COST, {**params, "cursor": cursor, "limit": _PAGE}, timeout=_PATIENCE_S)
        rows += page["tasks"]
        cursor = page["next"]
        if cursor is None:
            return rows
