"""-retry: another round for the failed and missing records of a finished task."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from batch_infer.cli.chunk_ranges import shown_ranges
from batch_infer.cli.following import Manner, follow_task
from batch_infer.cli.steering import show_state
from batch_infer.protocol import rpc
from batch_infer.protocol.errors import EXIT_DONE
from batch_infer.protocol.text import Text
from batch_infer.render import numbers
from batch_infer.render.columns import cut
from batch_infer.render.working import Bar

if TYPE_CHECKING:
    from batch_infer.cli.context import Context, Peer
    from batch_infer.cli.request import Request

_LIST_CELLS = 60


def run(context: Context, request: Request) -> int:
    """Start the round, and stay with it when asked."""
    task_id = request.ids[0]
    params: dict[str, Any] = {"task_id": task_id}
    if request.chunks:
        params["chunks"] = [[first, last] for first, last in request.chunks]
    if request.only is not None:
        params["only"] = request.only
    if request.rows is not None:
        params["rows"] = os.path.abspath(request.rows)
    some = "only" in params or "rows" in params
    with context.daemon_of_task(task_id) as peer:
        answer = _ask_long(context, peer, params) if some else peer.call(rpc.RETRY, params)
    if answer.get("unmatched"):
        unmatched = {"n": numbers.count(answer["unmatched"]), "path": request.rows}
        context.console.note(Text("{n} entries of {path} name no such record", unmatched))
    values = {"id": task_id, "n": numbers.count(answer["records"]), "round": answer["round"]}
    if answer["records"] == 1:
        context.console.tell(Text("round {round}: 1 record is tried again", values))
    elif answer["records"]:
        context.console.tell(Text("round {round}: {n} records are tried again", values))
    elif answer["state"] == "completed":
        nothing = Text("nothing to try again: task {id} has no failed or missing records", values)
        if request.chunks:
            named = {"list": cut(shown_ranges(request.chunks), _LIST_CELLS)}
            nothing = Text("nothing to try again: no failed or missing records in the chunks {list}", named)
        if some:
            nothing = Text("nothing to try again: no record that was not answered is among those chosen")
        context.console.tell(nothing)
    if not (request.wait or request.follow):
        show_state(context, task_id, answer, as_json=request.as_json)
        return EXIT_DONE
    manner = Manner.FOLLOW if request.follow else Manner.WAIT
    return follow_task(context, task_id, manner, as_json=request.as_json)


def _ask_long(context: Context, peer: Peer, params: dict[str, Any]) -> dict[str, Any]:
    """The answer where all journals of failed records have to be read first."""
    with Bar(context.console, Text("retry"), context.monotonic) as bar:
        return peer.call_long(rpc.RETRY, params, bar.show)
