"""-logs: print a task's log, and with -follow what is added to it until the task has ended.

No daemon is started for it; one that runs is asked now and then whether the task has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_infer.cli.log_files import Place, find_log, read_lines, rotated
from batch_infer.protocol.errors import EXIT_DONE, BatchInferError, TaskNotFound
from batch_infer.protocol.text import Text
from batch_infer.render.public import SCHEMA
from batch_infer.render.states import has_ended, state_line
from batch_infer.render.task_pages import task_pages

if TYPE_CHECKING:
    from pathlib import Path

    from batch_infer.cli.context import Context
    from batch_infer.cli.request import Request

_LOOK_EACH_S = 0.25
_ASK_EACH_S = 3.0
_LAST_LOOK_S = 1.0  # for what the daemon still writes when the task has ended


def run(context: Context, request: Request) -> int:
    """Print the log of the newest task of that id, from its oldest part that is kept."""
    task_id = request.ids[0]
    context.check_known(task_id)
    path = find_log(context.workspace, task_id)
    if path is None:
        if not (context.workspace.chunks / task_id).is_dir():
            raise context.not_found(task_id)
        context.console.tell(Text("the task {id} has no log", {"id": task_id}))
        return EXIT_DONE
    for part in rotated(path):
        _print(context, request, part, None)
    place = _print(context, request, path, None)
    if not request.follow:
        return EXIT_DONE
    asked = float("-inf")
    while True:  # until Ctrl-C, or the task's end
        if context.monotonic() - asked >= _ASK_EACH_S:
            end = _end(context, task_id)
            if end is not None:
                context.sleep(_LAST_LOOK_S)
                _print(context, request, path, place)
                context.console.tell(end)
                return EXIT_DONE
            asked = context.monotonic()
        context.sleep(_LOOK_EACH_S)
        place = _print(context, request, path, place)


def _end(context: Context, task_id: str) -> Text | None:
    """What to say when nothing more will be logged; None while the task goes on, or nobody can tell."""
    gone = Text("the task {id} is gone: its folder was removed", {"id": task_id})
    if not (context.workspace.chunks / task_id).is_dir():
        return gone
    try:
        peer = context.find(context.workspace)
        if peer is None:
            return None
        try:
            task = task_pages(peer, task_id).task
        finally:
            peer.close()
    except TaskNotFound:
        return gone
    except BatchInferError:
        return None  # it is starting, ending or of another version
    if not has_ended(task):
        return None
    values = {"id": task_id, "state": state_line(task, context.lang)}
    return Text("task {id} {state}; this is the end of its log", values)


def _print(context: Context, request: Request, path: Path, place: Place | None) -> Place | None:
    for lines, after in read_lines(path, place):
        place = after
        if request.as_json:
            for line in lines:
                context.console.json({"schema": SCHEMA, "task_id": request.ids[0], "line": line})
        else:
            context.console.data("\n".join(lines))
    return place
