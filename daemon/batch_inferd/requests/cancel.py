"""`cancel`: stop scheduling a task; what was paid for is kept and merged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import TaskConflict
from batch_infer.protocol.text import Text
from batch_inferd.requests.params import string
from batch_inferd.tasks import opening, states

if TYPE_CHECKING:
    from batch_inferd.app import App
    from batch_inferd.server.peer import Peer


async def handle(app: App, params: dict[str, Any], _peer: Peer) -> dict[str, Any]:
    """`{state}`. Cancelling twice is fine; raises TaskNotFound, TaskConflict when it has ended otherwise."""
    task_id = string(params, "task_id")
    async with app.registry.lock(task_id):
        task = await app.registry.find(task_id)
        if task.state in (states.COMPLETED, states.FAILED):
            raise TaskConflict(
                Text("the task {id} has already ended: {state}", {"id": task_id, "state": Text(task.state)}),
                hints=(
                    Text("its outputs are in {path}", {"path": str(app.context.workspace.merged / task_id)}),
                ),
            )
        if task.state == states.MERGING and not task.cancelling:
            raise TaskConflict(
                Text(
                    "the task {id} is being merged: nothing is sent any more, and it is about to end",
                    {"id": task_id},
                )
            )
        if task.state != states.CANCELLED and not task.cancelling:
            await opening.adopt(task)
            await task.cancel()
        return {"state": task.state, "cancelling": task.cancelling}
