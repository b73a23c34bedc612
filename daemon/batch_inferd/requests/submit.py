"""`submit`: a new task, or going on with an unfinished one. Durable before it returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.protocol.text import Text
from batch_infer.protocol.workspace import check_task_id
from batch_inferd.requests.params import string, submission
from batch_inferd.tasks import opening, states, submitting
from batch_inferd.tasks.folder import exists_error
from batch_inferd.tasks.removing import check_needs_nothing_of, remove, why_not

if TYPE_CHECKING:
    from batch_inferd.app import App
    from batch_inferd.server.peer import Peer
    from batch_inferd.tasks.submitting import Prepared
    from batch_inferd.tasks.task import Task


async def handle(app: App, params: dict[str, Any], _peer: Peer) -> dict[str, Any]:
    """See `submit` in docs/cli.md. Raises ConfigError, InputError, TaskIdError, TaskExists.

    `cleanup` is the UUID of a task of that id that is removed first, if it has ended.
    """
    task_id = check_task_id(string(params, "task_id"))
    nonce = string(params, "nonce")
    await app.registry.ready.wait()
    async with app.registry.lock(task_id):
        task = await app.registry.find_or_none(task_id)
        if task is not None and task.facts.get("nonce") == nonce:
            if not task.is_driven:
                await opening.go_on(task, by_person=True)
            return dict(task.facts["acceptance"])  # the same submit, sent twice
        prepared = await submitting.prepare(app.context, submission(params, string(params, "input")))
        if task is not None and params.get("cleanup") == task.uuid and why_not(task) is None:
            check_needs_nothing_of(task, string(params, "input"))
            await remove(app.registry, task)
            task = None
        if task is None:
            task = await submitting.create(app.registry, task_id, nonce, prepared)
            return dict(task.facts["acceptance"])
        return await _go_on(task, prepared)


async def _go_on(task: Task, prepared: Prepared) -> dict[str, Any]:
    """The same command on an unfinished task: it goes on, with what the config says now."""
    outputs = str(task.context.workspace.merged / task.id)
    state = {"state": Text(task.state)}
    if task.state in states.ENDED:
        hint = Text("the task is {state}; its outputs are in {path}", state | {"path": outputs})
        raise exists_error(task.id, hint)
    if task.cancelling:
        raise exists_error(task.id, Text("the task is being cancelled"))
    if task.facts.get("identity_of_task") != prepared.identity:
        hint = Text("the task of that id is {state}, with another input or another config", state)
        raise exists_error(task.id, hint)
    notes = list(prepared.notes)
    if task.reason is not None:
        notes.append(Text("it was paused: {reason}", {"reason": task.reason.text}))
    await submitting.mend(task, prepared)
    await opening.go_on(task, by_person=True)
    accepted = submitting.acceptance(task.context, task.id, task.uuid, prepared)
    return accepted | {"state": task.state, "went_on": True, "notes": [note.to_wire() for note in notes]}
