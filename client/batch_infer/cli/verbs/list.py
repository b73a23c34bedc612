"""-list: a line a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_infer.cli.tasks import all_tasks, tell_empty
from batch_infer.protocol.errors import EXIT_DONE
from batch_infer.render.public import public_tasks
from batch_infer.render.task_text import task_list

if TYPE_CHECKING:
    from batch_infer.cli.context import Context
    from batch_infer.cli.request import Request


def run(context: Context, request: Request) -> int:
    """List the tasks of the workspace; an empty one is told on stderr."""
    with context.daemon_of_tasks() as peer:
        tasks = [] if peer is None else all_tasks(peer)
    if request.as_json:
        context.console.json(public_tasks(tasks, context.lang))
    elif tasks:
        for line in task_list(tasks, context.lang):
            context.console.data(line)
    else:
        tell_empty(context)
    return EXIT_DONE
