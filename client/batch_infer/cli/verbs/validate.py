"""-validate: are outputs what they should be? With -repair, what is damaged is rebuilt."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from batch_infer.cli.tasks import all_tasks, tell_empty
from batch_infer.protocol import rpc
from batch_infer.protocol.errors import (
    EXIT_DONE,
    EXIT_DONE_WITH_ERRORS,
    InputError,
    TaskIdError,
    UsageError,
)
from batch_infer.protocol.text import Text
from batch_infer.protocol.workspace import check_task_id
from batch_infer.render.check_text import check_lines, next_step, public_check
from batch_infer.render.public import SCHEMA
from batch_infer.render.states import has_ended
from batch_infer.render.working import Bar

if TYPE_CHECKING:
    from batch_infer.cli.context import Context, Peer
    from batch_infer.cli.request import Request


def run(context: Context, request: Request) -> int:
    """Check one task or file, or all tasks that have ended; 1 when something is wrong."""
    console = context.console
    name = request.ids[0] if request.ids else None
    task_id = name if name is not None and _is_task(context, name) else None
    path = None if name is None or task_id is not None else _file(name)
    if path is not None and request.repair:
        raise UsageError(
            Text(
                "only the outputs of a task can be repaired: nobody knows what {path} should be",
                {"path": path},
            ),
            hints=(Text("write: {usage}", {"usage": "batch_infer -validate ID -repair"}),),
        )
    asked: dict[str, Any] = {"repair": request.repair}
    if request.schema is not None:
        asked["schema"] = os.path.abspath(request.schema)
    results: list[dict[str, Any]] = []
    with context.daemon_of_tasks() if path is None else context.daemon() as peer:
        if peer is None and task_id is not None:
            raise context.not_found(task_id)
        for what in _chosen(peer, task_id, path):
            with Bar(console, Text("check"), context.monotonic) as bar:
                answer = peer.call_long(rpc.VALIDATE, asked | what, bar.show) if peer is not None else {}
            results.append(answer)
            if not request.as_json:
                for line in check_lines(answer, console.lang):
                    console.data(line)
                step = next_step(answer)
                if step is not None:
                    console.hint(step)
    ok = all(result["ok"] for result in results)
    if request.as_json:
        shown = [public_check(result, console.lang) for result in results]
        console.json({"schema": SCHEMA, "ok": ok, "results": shown})
    elif not results:
        tell_empty(context)
    return EXIT_DONE if ok else EXIT_DONE_WITH_ERRORS


def _is_task(context: Context, name: str) -> bool:
    """Whether a name means a task: one whose folder is there, or that is no file and could be one."""
    try:
        check_task_id(name)
    except TaskIdError:
        return False
    return (context.workspace.chunks / name).is_dir() or not os.path.exists(name)


def _file(name: str) -> str:
    """The absolute path of a file. Raises InputError."""
    path = os.path.abspath(name)
    if not os.path.isfile(path):
        raise InputError(
            Text("{path} is neither a task nor a file", {"path": path}),
            hints=(Text("batch_infer -list shows the tasks of a workspace"),),
        )
    return path


def _chosen(peer: Peer | None, task_id: str | None, path: str | None) -> list[dict[str, Any]]:
    if path is not None:
        return [{"path": path}]
    if task_id is not None:
        return [{"task_id": task_id}]
    return [] if peer is None else [{"task_id": t["task_id"]} for t in all_tasks(peer) if has_ended(t)]
