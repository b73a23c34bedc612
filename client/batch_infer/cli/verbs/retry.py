"""-retry: another round for the failed and missing records of a finished task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.cli.chunk_ranges import shown_ranges
from batch_infer.cli.following import Manner, follow_task
from batch_infer.cli.steering import show_state
from batch_infer.protocol import rpc
from batch_infer.protocol.errors import EXIT_DONE
from batch_infer.protocol.text import Text
from batch_infer.render import numbers
from batch_infer.render.columns import cut

if TYPE_CHECKING:
    from batch_infer.cli.context import Context
    from batch_infer.cli.request import Request

_LIST_CELLS = 60


def run(context: Context, request: Request) -> int:
    """Start the round, and stay with it when asked."""
    task_id = request.ids[0]
    params: dict[str, Any] = {"task_id": task_id}
    if request.chunks:
        params["chunks"] = [[first, last] for first, last in request.chunks]
    with context.daemon_of_task(task_id) as peer:
        answer = peer.call(rpc.RETRY, params)
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
        context.console.tell(nothing)
    if not (request.wait or request.follow):
        show_state(context, task_id, answer, as_json=request.as_json)
        return EXIT_DONE
    manner = Manner.FOLLOW if request.follow else Manner.WAIT
    return follow_task(context, task_id, manner, as_json=request.as_json)
