"""-monitor: progress until the end, or one look with -once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_infer.cli.following import Manner, follow_all, follow_task
from batch_infer.cli.submissions import Newest
from batch_infer.cli.tasks import all_tasks, tell_empty
from batch_infer.protocol import rpc
from batch_infer.protocol.errors import EXIT_DONE
from batch_infer.render.daemon_text import load_of
from batch_infer.render.public import public_task, public_tasks
from batch_infer.render.states import exit_code, has_ended
from batch_infer.render.task_fields import load
from batch_infer.render.task_pages import task_pages
from batch_infer.render.task_text import task_detail, task_list

if TYPE_CHECKING:
    from batch_infer.cli.context import Context
    from batch_infer.cli.request import Request
    from batch_infer.render.shapes import Load, Summary


def run(context: Context, request: Request) -> int:
    """Watch one task or all of them."""
    task_id = request.ids[0] if request.ids else None
    if task_id is not None:
        context.check_known(task_id)
    if request.once:
        if task_id is None:
            return _once_all(context, as_json=request.as_json)
        return _once(context, task_id, as_json=request.as_json)
    with context.daemon_of_tasks() as peer:
        if peer is None:
            if task_id is not None:
                raise context.not_found(task_id)
            tell_empty(context)
            return EXIT_DONE
    if task_id is None:
        return follow_all(context, as_json=request.as_json)
    return follow_task(context, task_id, Manner.MONITOR, as_json=request.as_json)


def _once_all(context: Context, *, as_json: bool) -> int:
    console = context.console
    tasks: list[Summary] = []
    daemon: Load | None = None
    with context.daemon_of_tasks() as peer:
        if peer is not None:
            daemon = load_of(peer.call(rpc.DAEMON_STATUS))
            tasks = all_tasks(peer)
    if as_json:
        console.json(public_tasks(tasks, context.lang, daemon=daemon))
        return EXIT_DONE
    if not tasks:
        tell_empty(context)
    for line in task_list(tasks, context.lang, reasons=True) if tasks else ():
        console.data(line)
    if daemon is not None:
        console.data(load(daemon, context.lang))
    return EXIT_DONE


def _once(context: Context, task_id: str, *, as_json: bool) -> int:
    console = context.console
    with context.daemon_of_task(task_id) as peer:
        daemon = load_of(peer.call(rpc.DAEMON_STATUS))
        task, _, submissions = task_pages(peer, task_id)
        newest = Newest(submissions if not (as_json or has_ended(task)) else iter(()))
    if as_json:
        console.json(public_task(task, context.lang) | {"daemon": daemon})
    else:
        for line in task_detail(task, context.lang, context.now()):
            console.data(line)
        console.data(load(daemon, context.lang))
        newest.show(context, task_id, only_open=True)
    return exit_code(task) if has_ended(task) else EXIT_DONE
