"""`retry`: the failed and missing records of a completed task, or of some chunks, get another round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import TaskConflict
from batch_infer.protocol.text import Text
from batch_inferd.requests.params import ranges, string
from batch_inferd.tasks import opening, states

if TYPE_CHECKING:
    from batch_inferd.app import App
    from batch_inferd.server.peer import Peer


async def handle(app: App, params: dict[str, Any], _peer: Peer) -> dict[str, Any]:
    """`{state, round, records}`; records 0: nothing to do. Raises TaskNotFound, TaskConflict."""
    task_id = string(params, "task_id")
    chunks = ranges(params, "chunks")
    async with app.registry.lock(task_id):
        task = await app.registry.find(task_id)
        broken = task.state == states.FAILED and task.reason is not None and task.reason.code == "identity"
        if task.state != states.COMPLETED and not broken:
            hint = Text(
                "submit its missing_records.jsonl and what was not read under a new task-id; see {path}",
                {"path": str(app.context.workspace.merged / task_id)},
            )
            raise TaskConflict(
                Text(
                    "-retry takes a completed task; {id} is {state}",
                    {"id": task_id, "state": Text(task.state)},
                ),
                hints=(hint,) if task.state == states.CANCELLED else (),
            )
        async with task.opened():
            opening.open_log(task)
            if not await opening.ensure_plan(task):
                reason = task.plan_problem or Text("its credential is missing")
                raise TaskConflict(
                    Text("the task {id} cannot be tried again: {reason}", {"id": task_id, "reason": reason})
                )
            if broken:
                await task.mend_journals()
                return {
                    "state": task.state,
                    "round": task.round,
                    "records": task.progress.counts()["pending"],
                }
            records = await task.retry(chunks)
            return {"state": task.state, "round": task.round, "records": records}
