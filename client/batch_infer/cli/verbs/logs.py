"""-logs: print a task's log, and what is added to it with -follow. No daemon is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_infer.cli.log_files import Place, newest_log, read_lines, rotated
from batch_infer.protocol.errors import EXIT_DONE
from batch_infer.protocol.text import Text
from batch_infer.render.public import SCHEMA

if TYPE_CHECKING:
    from pathlib import Path

    from batch_infer.cli.context import Context
    from batch_infer.cli.request import Request

_LOOK_EACH_S = 0.25


def run(context: Context, request: Request) -> int:
    """Print the log of the newest task of that id, from its oldest part that is kept."""
    task_id = request.ids[0]
    context.check_known(task_id)
    path = newest_log(context.workspace.logs, task_id)
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
    while True:  # until Ctrl-C
        context.sleep(_LOOK_EACH_S)
        place = _print(context, request, path, place)


def _print(context: Context, request: Request, path: Path, place: Place | None) -> Place | None:
    for lines, after in read_lines(path, place):
        place = after
        if request.as_json:
            for line in lines:
                context.console.json({"schema": SCHEMA, "task_id": request.ids[0], "line": line})
        else:
            context.console.data("\n".join(lines))
    return place
