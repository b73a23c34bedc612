"""`pause`: no new calls until `resume`; those in flight finish."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import TaskConflict
from batch_infer.protocol.text import Text
from batch_inferd.requests.params import string
from batch_inferd.tasks import states
from batch_inferd.tasks.states import Reason

if TYPE_CHECKING:
    from batch_inferd.app import App
    from batch_inferd.server.peer import Peer


async def handle(app: App, params: dict[str, Any], _peer: Peer) -> dict[str, Any]:
    """`{state}`. Raises TaskNotFound, TaskConflict when there is nothing to pause."""
    task_id = string(params, "task_id")
    async with app.registry.lock(task_id):
        task = await app.registry.find(task_id)
        if task.state in states.ENDED or task.state == states.MERGING or task.cancelling:
            raise TaskConflict(
                Text(
                    "the task {id} cannot be paused: it is {state}",
                    {"id": task_id, "state": Text(task.state)},
                )
            )
        reason = Reason("user", Text("paused by hand; batch_infer -resume {id} goes on", {"id": task_id}))
        if task.state == states.PAUSED:
            await task.set_state(states.PAUSED, reason)  # it no longer goes on by itself
        else:
            await task.pause(reason)
        return {"state": task.state}
