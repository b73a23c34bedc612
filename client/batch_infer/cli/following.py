"""To the end of one task: choose a view, watch, print the summary, know the exit code."""

from __future__ import annotations

from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, TextIO

from batch_infer.cli.outcome import steps
from batch_infer.cli.watch import Tasks, View, watch
from batch_infer.protocol.errors import EXIT_INTERRUPTED
from batch_infer.protocol.text import Text
from batch_infer.render.lines import JsonLines, ProgressLines, Quiet
from batch_infer.render.public import public_task
from batch_infer.render.states import exit_code, has_ended, needs_person
from batch_infer.render.task_text import end_summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batch_infer.cli.context import Context
    from batch_infer.render.shapes import Summary


class Manner(Enum):
    """How a task is watched: silently, with progress beside the data, or with progress as the data."""

    WAIT = "wait"
    FOLLOW = "follow"
    MONITOR = "monitor"


def follow_task(context: Context, task_id: str, manner: Manner, *, as_json: bool) -> int:
    """Watch a task to its end and print its summary; 0, 1, 5 or 130.

    A task that is paused for something that a person must mend is at its end too, but for a live
    -monitor, which goes on showing it.
    """
    with _view(context, manner, as_json=as_json, task_id=task_id) as (view, live):
        keep_paused = live and manner is Manner.MONITOR

        def until(tasks: Tasks) -> bool:
            task = tasks.get(task_id)
            return task is not None and (has_ended(task) or (needs_person(task) and not keep_paused))

        try:
            task = watch(context, [task_id], view, until)[task_id]
        except KeyboardInterrupt:
            task = None
    if task is None:
        return interrupted(context, task_id)
    show_end(context, task, as_json=as_json, printed=manner is not Manner.WAIT)
    return exit_code(task)


def follow_all(context: Context, *, as_json: bool) -> int:
    """Watch all tasks until none is unfinished."""
    with _view(context, Manner.MONITOR, as_json=as_json, task_id=None) as (view, _):
        try:
            watch(context, None, view, lambda tasks: all(has_ended(task) for task in tasks.values()))
        except KeyboardInterrupt:
            pass
        else:
            return 0
    return interrupted(context, None)


def show_end(context: Context, task: Summary, *, as_json: bool, printed: bool) -> None:
    """The summary on stdout and what to do next on stderr; as JSON unless it was `printed` already."""
    console = context.console
    if not as_json:
        for line in end_summary(task, context.lang):
            console.data(line)
    elif not printed:
        console.json(public_task(task, context.lang))
    for step in steps(task):
        console.hint(step)


def interrupted(context: Context, task_id: str | None) -> int:
    """Say that Ctrl-C ended the looking, not the running."""
    if task_id is None:
        context.console.tell(Text("the tasks go on running"))
    else:
        context.console.tell(
            Text("task {id} goes on running; to see it: batch_infer -monitor {id}", {"id": task_id})
        )
    return EXIT_INTERRUPTED


@contextmanager
def _view(
    context: Context, manner: Manner, *, as_json: bool, task_id: str | None
) -> Iterator[tuple[View, bool]]:
    """The view for a manner of watching, and whether it is redrawn on a terminal."""
    console = context.console
    to_data = manner is Manner.MONITOR
    stream: TextIO = console.out if to_data else console.err
    write: Callable[[str], None] = console.data if to_data else console.say
    if manner is Manner.WAIT:
        yield Quiet(console, context.now), False
    elif as_json:
        yield JsonLines(console, context.monotonic), False
    elif console.live(stream):
        from batch_infer.render.live import Live

        with Live(console, stream, task_id, now=context.now, monotonic=context.monotonic) as view:
            yield view, True
    else:
        yield ProgressLines(console, write, now=context.now, monotonic=context.monotonic), False
