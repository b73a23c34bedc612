"""`set_options`: settings of a task are changed while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import TaskConflict
from batch_infer.protocol.text import Text
from batch_inferd.config.settings import read_settings
from batch_inferd.requests.params import string, strings
from batch_inferd.tasks import settings, states

if TYPE_CHECKING:
    from batch_inferd.app import App
    from batch_inferd.server.peer import Peer


async def handle(app: App, params: dict[str, Any], _peer: Peer) -> dict[str, Any]:
    """`{state, changes: [{key, from, to}], warnings}`. Raises TaskNotFound, TaskConflict, ConfigError."""
    task_id = string(params, "task_id")
    given = strings(params, "settings")
    read_settings(given)  # what is wrong in itself is told, whatever the task is like
    async with app.registry.lock(task_id):
        task = await app.registry.find(task_id)
        if task.state in states.ENDED or task.state == states.MERGING or task.cancelling:
            raise TaskConflict(
                Text(
                    "the settings of the task {id} cannot be changed: it is {state}",
                    {"id": task_id, "state": Text(task.state)},
                )
            )
        changes = await settings.change(task, given)
        return {
            "state": task.state,
            "changes": [{"key": key, "from": old, "to": new} for key, old, new in changes],
            "warnings": [text.to_wire() for text in settings.cautions(task)],
        }
