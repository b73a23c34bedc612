"""-status: one task with its chunks and batches, or the daemon and all tasks."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from batch_infer.cli.outcome import steps
from batch_infer.cli.submissions import Newest
from batch_infer.cli.tasks import all_tasks, tell_empty
from batch_infer.protocol import rpc
from batch_infer.protocol.errors import EXIT_DONE
from batch_infer.protocol.text import Text
from batch_infer.render import numbers
from batch_infer.render.daemon_text import daemon_lines, public_daemon
from batch_infer.render.public import public_submission, public_task, public_tasks
from batch_infer.render.task_pages import task_pages
from batch_infer.render.task_text import chunk_table, task_detail, task_list

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_infer.cli.context import Context
    from batch_infer.cli.request import Request
    from batch_infer.render.shapes import Chunk, Summary

# As text, a task with more chunks than this shows only those that are not done, up to this many.
CHUNKS_SHOWN = 20


def run(context: Context, request: Request) -> int:
    """Show what is asked for."""
    if request.ids:
        return _one(context, request.ids[0], as_json=request.as_json)
    return _all(context, as_json=request.as_json)


def _one(context: Context, task_id: str, *, as_json: bool) -> int:
    console = context.console
    with context.daemon_of_task(task_id) as peer:
        task, chunks, submissions = task_pages(peer, task_id)
        if as_json:
            rows = [public_submission(submission, context.lang) for submission in submissions]
            console.json(
                public_task(task, context.lang) | {"chunks": list(chunks), "submissions": rows},
            )
            return EXIT_DONE
        shown, more = _worth_showing(task, chunks)
        newest = Newest(submissions)
    for line in task_detail(task, context.lang, context.now()):
        console.data(line)
    if shown:
        console.data("")
        for line in chunk_table(shown, context.lang):
            console.data(line)
    if more:
        values = {"n": numbers.count(more), "id": task_id}
        shows = Text("{n} more chunks are shown by: batch_infer -status {id} -json", values)
        if more == 1:
            shows = Text("1 more chunk is shown by: batch_infer -status {id} -json", values)
        console.tell(shows)
    newest.show(context, task_id)
    for step in steps(task):
        console.hint(step)
    return EXIT_DONE


def _worth_showing(task: Summary, chunks: Iterator[Chunk]) -> tuple[list[Chunk], int]:
    """The chunks to show, and how many there are beside."""
    states = task.get("chunk_states") or {}
    total = sum(states.values())
    if total <= CHUNKS_SHOWN:
        return list(chunks), 0
    if states.get("done") == total:
        return [], total
    shown = list(islice((chunk for chunk in chunks if chunk["state"] != "done"), CHUNKS_SHOWN))
    return shown, total - len(shown)


def _all(context: Context, *, as_json: bool) -> int:
    console = context.console
    with context.daemon_of_tasks() as peer:
        status = None if peer is None else peer.call(rpc.DAEMON_STATUS)
        tasks = [] if peer is None else all_tasks(peer)
    if as_json:
        daemon = public_daemon(status)
        daemon.pop("schema")
        console.json(public_tasks(tasks, context.lang, daemon=daemon))
        return EXIT_DONE
    if status is None:
        console.tell(Text("no daemon runs in the workspace {path}", {"path": str(context.workspace.root)}))
    else:
        for line in daemon_lines(status, context.lang):
            console.data(line)
    if not tasks:
        tell_empty(context)
        return EXIT_DONE
    console.data("")
    for line in task_list(tasks, context.lang, reasons=True):
        console.data(line)
    return EXIT_DONE
