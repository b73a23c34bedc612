"""`resume`: a paused task goes on, if need be with a mended config."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import TaskConflict
from batch_infer.protocol.text import Text
from batch_inferd.requests.params import string, strings, submission
from batch_inferd.tasks import opening, settings, states, submitting

if TYPE_CHECKING:
    from batch_inferd.app import App
    from batch_inferd.server.peer import Peer


async def handle(app: App, params: dict[str, Any], _peer: Peer) -> dict[str, Any]:
    """`{state, warnings, notes}`. Raises TaskNotFound, TaskConflict, ConfigError."""
    task_id = string(params, "task_id")
    async with app.registry.lock(task_id):
        task = await app.registry.find(task_id)
        if task.state in states.ENDED or task.cancelling:
            hint = Text("batch_infer -retry {id} tries failed and missing records again", {"id": task_id})
            raise TaskConflict(
                Text("the task {id} cannot go on: it is {state}", {"id": task_id, "state": Text(task.state)}),
                hints=(hint,) if task.state == states.COMPLETED else (),
            )
        warnings: list[Any] = []
        if params.get("config"):
            prepared = await submitting.prepare(app.context, submission(params), task=task)
            if prepared.identity != task.facts.get("identity_of_task"):
                raise TaskConflict(
                    Text(
                        "this config describes a different task: "
                        "-resume may change credentials, limits, execution, logging, retries "
                        "and how batches are run only"
                    ),
                    hints=(Text("submit it under a new task-id"),),
                )
            await submitting.mend(task, prepared)
            warnings = [text.to_wire() for text in (*prepared.warnings, *prepared.notes)]
        elif params.get("settings"):
            await settings.change(task, strings(params, "settings"))
            warnings = [text.to_wire() for text in settings.cautions(task)]
        if task.state == states.PAUSED or not task.is_driven:
            await opening.go_on(task, by_person=True)
        return {
            "state": task.state,
            "reason": task.reason.to_json() if task.reason else None,
            "warnings": warnings,
        }
