"""Asking before tasks are removed, and removing them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from batch_infer.protocol import rpc
from batch_infer.protocol.errors import UsageError
from batch_infer.protocol.text import Text
from batch_infer.render import numbers
from batch_infer.render.working import Bar

if TYPE_CHECKING:
    from batch_infer.cli.context import Context, Peer

_SHOWN = 20


def confirm(context: Context, tasks: list[dict[str, Any]], *, yes: bool) -> bool:
    """Show what would be removed, and ask a person, unless `yes`. Raises UsageError where nobody is there."""
    console = context.console
    for task in tasks[:_SHOWN]:
        values = {
            "id": task["task_id"],
            "state": Text(task["state"]),
            "n": numbers.count(task["answers"]),
            "created": numbers.moment(task["created"] or 0.0),
        }
        console.tell(Text("task {id} of {created}: {state}, {n} answers", values))
    if len(tasks) > _SHOWN:
        console.tell(Text("and {n} more", {"n": numbers.count(len(tasks) - _SHOWN)}))
    if yes:
        return True
    if not (sys.stdin and sys.stdin.isatty()):
        raise UsageError(
            Text("nothing was removed: there is nobody to ask"),
            hints=(Text("add -yes if all this shall be removed, answers included"),),
        )
    question = Text("remove the task and all its answers for good? [y/N] ")
    if len(tasks) > 1:
        question = Text(
            "remove these {n} tasks and all their answers for good? [y/N] ", {"n": numbers.count(len(tasks))}
        )
    console.err.write(console.text(question))
    console.err.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes", "是")


def remove(context: Context, peer: Peer, tasks: list[dict[str, Any]]) -> dict[str, Any]:
    """Remove exactly these; `{removed, refused}`."""
    chosen = [[task["task_id"], task["uuid"]] for task in tasks]
    with Bar(context.console, Text("clean"), context.monotonic) as bar:
        return peer.call_long(rpc.CLEAN, {"remove": chosen}, bar.show)
