"""-retry: another round for the failed and missing records of a finished task, or for invalid answers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from batch_infer.cli.chunk_ranges import shown_ranges
from batch_infer.cli.environment import proxies
from batch_infer.cli.following import Manner, follow_task
from batch_infer.cli.steering import show_state
from batch_infer.cli.submission import config_params, find_config, read_config
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
# What is wrong with answers that are asked for again: of one, and of more.
_WRONG = {
    "cut": (
        Text("1 answer had ended at the limit of tokens"),
        Text("{n} answers had ended at the limit of tokens"),
    ),
    "empty": (Text("1 answer was empty"), Text("{n} answers were empty")),
    "schema": (
        Text("1 answer did not follow the schema"),
        Text("{n} answers did not follow the schema"),
    ),
}


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
    path = find_config(context, request.config)
    config = read_config(path, named=True) if request.config else None
    some = "only" in params or "rows" in params
    with context.daemon_of_task(task_id) as peer:
        if config is not None:
            params |= {"proxy": proxies(context.environ), **config_params(context, peer, path, config)}
        answer = _ask_long(context, peer, params) if some else peer.call(rpc.RETRY, params)
    for warning in answer.get("warnings", ()):
        context.console.warning(Text.from_wire(warning))
    _tell(context, request, answer)
    if not (request.wait or request.follow):
        show_state(context, task_id, answer, as_json=request.as_json)
        return EXIT_DONE
    manner = Manner.FOLLOW if request.follow else Manner.WAIT
    return follow_task(context, task_id, manner, as_json=request.as_json)


def _ask_long(context: Context, peer: Peer, params: dict[str, Any]) -> dict[str, Any]:
    """The answer where all journals of the records have to be read first."""
    with Bar(context.console, Text("retry"), context.monotonic) as bar:
        return peer.call_long(rpc.RETRY, params, bar.show)


def _tell(context: Context, request: Request, answer: dict[str, Any]) -> None:
    """What is tried again, and why; or that there is nothing to try again."""
    console = context.console
    if answer.get("unmatched"):
        unmatched = {"n": numbers.count(answer["unmatched"]), "path": request.rows}
        console.note(Text("{n} entries of {path} name no such record", unmatched))
    values = {"id": request.ids[0], "n": numbers.count(answer["records"]), "round": answer["round"]}
    if answer["records"] == 1:
        console.tell(Text("round {round}: 1 record is tried again", values))
    elif answer["records"]:
        console.tell(Text("round {round}: {n} records are tried again", values))
    elif answer["state"] == "completed":
        console.tell(_nothing(request, values))
    for what, count in sorted(answer.get("invalid", {}).items()):
        one, more = _WRONG[what]
        console.tell(one if count == 1 else Text(more.msgid, {"n": numbers.count(count)}))
    if answer.get("max_tokens"):
        values |= {"most": numbers.count(answer["max_tokens"])}
        console.hint(
            Text(
                "max_tokens is {most}, as it was: what ends there again can be asked for again with a larger "
                "one, batch_infer -retry {id} -only invalid -config FILE",
                values,
            )
        )


def _nothing(request: Request, values: dict[str, Any]) -> Text:
    """Why nothing is tried again."""
    if request.only == "invalid":
        if request.chunks or request.rows is not None:
            return Text("nothing to try again: no invalid answer is among those chosen")
        return Text("nothing to try again: task {id} has no invalid answers", values)
    if request.only is not None or request.rows is not None:
        return Text("nothing to try again: no record that was not answered is among those chosen")
    if request.chunks:
        named = {"list": cut(shown_ranges(request.chunks), _LIST_CELLS)}
        return Text("nothing to try again: no failed or missing records in the chunks {list}", named)
    return Text("nothing to try again: task {id} has no failed or missing records", values)
