"""-clean: remove tasks that have ended, with all they had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_infer.cli.cleaning import confirm, remove
from batch_infer.protocol import rpc
from batch_infer.protocol.errors import EXIT_DONE, TaskConflict
from batch_infer.protocol.text import Text
from batch_infer.render import numbers
from batch_infer.render.public import SCHEMA

if TYPE_CHECKING:
    from batch_infer.cli.context import Context, Peer
    from batch_infer.cli.request import Request


def run(context: Context, request: Request) -> int:
    """Say what would go, ask, remove; 3 when one of the named tasks cannot be removed."""
    for task_id in request.ids:
        context.check_known(task_id)
    outcome: dict[str, Any] = {"removed": [], "kept": None, "refused": []}
    with context.daemon_of_tasks() as peer:
        if peer is None and request.ids:
            raise context.not_found(request.ids[0])
        if peer is not None:
            _clean(context, request, peer, outcome)
    console = context.console
    if request.as_json:
        for refusal in outcome["refused"]:
            refusal["text"] = console.text(Text.from_wire(refusal["text"]))
            refusal["hints"] = [console.text(hint) for hint in _hints(refusal)]
        console.json({"schema": SCHEMA, **outcome})
    elif not outcome["removed"] and not outcome["refused"]:
        console.tell(Text("no task was removed"))
    return TaskConflict.exit_code if outcome["refused"] else EXIT_DONE


def _clean(context: Context, request: Request, peer: Peer, outcome: dict[str, Any]) -> None:
    console = context.console
    params: dict[str, Any] = {"keep_latest": request.keep_latest}
    if request.ids:
        params["tasks"] = list(request.ids)
    found = peer.call(rpc.CLEAN, params)
    outcome |= {"kept": found["kept"], "refused": found["refused"]}
    if found["tasks"] and confirm(context, found["tasks"], yes=request.yes):
        done = remove(context, peer, found["tasks"])
        outcome["removed"] = done["removed"]
        outcome["refused"] = outcome["refused"] + done["refused"]
    hinted: set[str] = set()  # what ails many tasks is mended once
    for refusal in outcome["refused"]:
        values = {"id": refusal["task_id"], "why": Text.from_wire(refusal["text"])}
        console.warning(Text("task {id} was not removed: {why}", values))
        for hint in _hints(refusal):
            if console.text(hint) not in hinted:
                hinted.add(console.text(hint))
                console.hint(hint)
    if request.as_json:
        return
    if outcome["kept"] is not None:
        console.tell(Text("task {id} is kept: it is the newest", {"id": outcome["kept"]}))
    for task_id in outcome["removed"]:
        console.data(console.text(Text("task {id} is removed", {"id": task_id})))
    if found["more"]:
        console.tell(
            Text("there are more than {n}: give the command again", {"n": numbers.count(len(found["tasks"]))})
        )


def _hints(refusal: dict[str, Any]) -> list[Text]:
    """What to do about it; a daemon of an older version tells none."""
    return [Text.from_wire(hint) for hint in refusal.get("hints", ())]
