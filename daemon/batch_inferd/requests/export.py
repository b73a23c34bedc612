"""`export`: the records of ended tasks, in input order, into one file."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import InputError, ProtocolError, TaskConflict, UsageError
from batch_infer.protocol.exports import ENCODINGS, FORMATS
from batch_infer.protocol.text import Text
from batch_inferd.exports.export import Target, Written
from batch_inferd.merge.publish import is_error_file
from batch_inferd.requests.long import Progress, run_long
from batch_inferd.requests.params import string
from batch_inferd.tasks import states
from batch_inferd.tasks.exporting import exported

if TYPE_CHECKING:
    import threading

    from batch_inferd.app import App
    from batch_inferd.server.peer import Peer
    from batch_inferd.tasks.task import Task

TASKS_MAX = 1000


async def handle(app: App, params: dict[str, Any], peer: Peer) -> dict[str, Any]:
    """`{path, format, tasks, records, bytes, sha256}`; pushes `working`. Needs `tasks`, `format`, `out`.

    Raises TaskNotFound, TaskConflict for a task that has not ended, UsageError, InputError.
    """
    form = _one_of(params, "format", FORMATS)
    encoding = _one_of(params, "encoding", ("", *ENCODINGS), "")
    path = string(params, "out")
    if not os.path.isabs(path):
        raise ProtocolError(Text("the parameter {name} must be an absolute path", {"name": "out"}))
    tasks = [await app.registry.find(task_id) for task_id in _ids(params)]
    for task in tasks:
        check_ended(task)
    begun = [_state(task) for task in tasks]
    async with AsyncExitStack() as stack:
        for task in tasks:
            await stack.enter_async_context(task.opened())
        sources = [exported(task) for task in tasks]

        def work(progress: Progress, stop: threading.Event) -> Written:
            progress.total = sum(source.total for source in sources)

            def advance(done: int) -> None:
                progress.done = done

            target = Target(path)
            try:
                _check_target(app, tasks, target)
                return target.write(sources, form, encoding, advance, stop)
            finally:
                target.close()

        try:
            written = await run_long(app, peer, work)
        except OSError as error:
            raise InputError(
                Text("{path} could not be written: {reason}", {"path": path, "reason": str(error)})
            ) from error
    for task, before in zip(tasks, begun, strict=True):
        if _state(task) != before:
            raise TaskConflict(
                Text("the task {id} changed while it was exported", {"id": task.id}),
                hints=(Text("export it once more when it has ended"),),
            )
    return {
        "path": path,
        "format": form,
        "tasks": [task.id for task in tasks],
        "records": written.records,
        **written.facts,
    }


def check_ended(task: Task) -> None:
    """Raises TaskConflict for a task whose records have not all ended."""
    if task.state not in states.ENDED:
        raise TaskConflict(
            Text(
                "only a task that has ended can be exported; {id} is {state}",
                {"id": task.id, "state": Text(task.state)},
            ),
            hints=(Text("batch_infer -monitor {id} shows when it ends", {"id": task.id}),),
        )


def _state(task: Task) -> tuple[str, int, Any]:
    return task.state, task.round, task.facts.get("generation")


def _ids(params: dict[str, Any]) -> list[str]:
    found = params.get("tasks")
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ProtocolError(Text("the parameter {name} must be a list of strings", {"name": "tasks"}))
    if not 0 < len(found) <= TASKS_MAX:
        raise UsageError(Text("an export takes 1 to {most} tasks", {"most": TASKS_MAX}))
    return list(dict.fromkeys(found))


def _one_of(params: dict[str, Any], name: str, allowed: Any, default: str | None = None) -> str:
    value = string(params, name, default)
    if value not in allowed:
        words = {"name": name, "allowed": ", ".join(word for word in allowed if word)}
        raise UsageError(Text("{name} must be one of {allowed}", words))
    return value


def _check_target(app: App, tasks: list[Task], target: Target) -> None:
    """Raises UsageError where the file would take the place of what is needed."""
    workspace = app.context.workspace
    values = {"path": str(target.real)}
    if target.real.is_relative_to(workspace.chunks):
        raise UsageError(Text("{path} lies among the files of the tasks; name another file", values))
    if target.real.parent.parent == workspace.merged and _is_output(target.real.name):
        raise UsageError(Text("{path} is an output of a task; name another file", values))
    for task in tasks:
        if str(target.real) in (task.pin.path, os.path.realpath(task.input_name)):
            raise UsageError(Text("{path} is the input of the task; name another file", values))


def _is_output(name: str) -> bool:
    return name in ("output.jsonl", "missing_records.jsonl", "report.json") or is_error_file(name)
