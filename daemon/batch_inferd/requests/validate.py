"""`validate`: are the outputs of a task, or a file, what they should be? With `repair`, damage is undone."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import InputError, TaskConflict
from batch_infer.protocol.text import Text
from batch_inferd.checks.content import Tick
from batch_inferd.checks.invalid import schema_of
from batch_inferd.checks.judge import judge_of
from batch_inferd.checks.validate import Asked, check_file, check_task
from batch_inferd.config.answer_schema import read_schema
from batch_inferd.requests.long import accompany
from batch_inferd.requests.params import absolute, string
from batch_inferd.tasks.threads import in_thread

if TYPE_CHECKING:
    from batch_inferd.app import App
    from batch_inferd.server.peer import Peer


async def handle(app: App, params: dict[str, Any], peer: Peer) -> dict[str, Any]:
    """See `-validate` in docs/checks.md; pushes `working`. Needs `task_id` or `path`.

    Without `schema`, that of the task's config judges its answers. Raises TaskNotFound, TaskConflict for a
    task that has not ended, InputError.
    """
    tick = Tick()
    schema = params.get("schema")
    accepts = None
    if schema is not None:
        name = absolute(params, "schema")
        accepts = judge_of(await asyncio.to_thread(read_schema, name), name)
    asked = Asked(bool(params.get("repair")), accepts)
    if params.get("path") is not None:
        path = absolute(params, "path")
        try:
            checked = in_thread(lambda: check_file(path, asked, tick), tick.stop)
            return await accompany(app, peer, checked, tick, tick.stop)
        except (OSError, sqlite3.Error) as error:
            raise InputError(_unread(path, error)) from error
    task_id = string(params, "task_id")
    async with app.registry.lock(task_id):
        task = await app.registry.find(task_id)
        if accepts is None:
            asked = asked._replace(accepts=schema_of(task))
        try:
            return await accompany(app, peer, check_task(task, asked, tick), tick, tick.stop)
        except (OSError, sqlite3.Error) as error:
            where = str(app.context.workspace.merged / task_id)
            raise TaskConflict(_unread(where, error)) from error


def _unread(path: str, error: Exception) -> Text:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Text("{path} could not be checked: {reason}", {"path": path, "reason": reason})
