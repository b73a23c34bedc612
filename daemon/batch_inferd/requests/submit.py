"""`submit`: a new task, or going on with an unfinished one. Durable before it returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import DaemonUnavailable
from batch_infer.protocol.text import Text
from batch_infer.protocol.workspace import check_task_id
from batch_inferd.requests.params import string, submission
from batch_inferd.tasks import states, submitting
from batch_inferd.tasks.folder import exists_error

if TYPE_CHECKING:
    from batch_inferd.app import App
    from batch_inferd.server.peer import Peer
    from batch_inferd.tasks.submitting import Prepared
    from batch_inferd.tasks.task import Task


async def handle(app: App, params: dict[str, Any], _peer: Peer) -> dict[str, Any]:
    """See `submit` in docs/cli.md. Raises ConfigError, InputError, TaskIdError, TaskExists."""
    task_id = check_task_id(string(params, "task_id"))
    nonce = string(params, "nonce")
    await app.registry.ready.wait()
    if app.draining:
        raise DaemonUnavailable(
            Text("the daemon is ending"), hints=(Text("give the command again: it starts a new one"),)
        )
    async with app.registry.lock(task_id):
        task = await app.registry.find_or_none(task_id)
        if task is not None and task.facts.get("nonce") == nonce:
            return submitting.acceptance(task, None, went_on=False)  # the same submit, sent twice
        prepared = await submitting.prepare(app.context, submission(params, string(params, "input")))
        if task is None:
            task = await submitting.create(app.registry, task_id, nonce, prepared)
            return submitting.acceptance(task, prepared, went_on=False)
        await _go_on(task, prepared)
        return submitting.acceptance(task, prepared, went_on=True)


async def _go_on(task: Task, prepared: Prepared) -> None:
    same = task.facts.get("identity_of_task") == prepared.identity
    if task.state in states.ENDED or task.cancelling or not same:
        raise exists_error(task.id)
    await submitting.mend(task, prepared)
    if task.state == states.PAUSED:
        await task.resume()
