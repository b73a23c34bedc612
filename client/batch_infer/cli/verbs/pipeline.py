"""-pipeline: submit a task, and stay with it when asked."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from batch_infer.cli.cleaning import confirm
from batch_infer.cli.following import Manner, follow_task, interrupted
from batch_infer.cli.settings import settings_params
from batch_infer.cli.sources import check_named, overrides_params, taken_input
from batch_infer.cli.submission import config_params, find_config, read_config
from batch_infer.protocol import rpc
from batch_infer.protocol.errors import DaemonUnavailable, ProtocolError
from batch_infer.protocol.text import Text
from batch_infer.protocol.workspace import check_task_id

if TYPE_CHECKING:
    from pathlib import Path

    from batch_infer.cli.context import Context
    from batch_infer.cli.request import Request


def run(context: Context, request: Request) -> int:
    """Check what can be checked here, submit, tell what happens next."""
    task_id = check_task_id(request.ids[0])
    config_path = find_config(context, request.config)
    config = read_config(config_path, named=request.config is not None)
    # The nonce makes a replay harmless: the daemon answers it with the same acceptance.
    params: dict[str, Any] = {
        "nonce": uuid.uuid4().hex,
        "task_id": task_id,
        "lang": context.lang,
        **settings_params(request.settings),
        **overrides_params(request.overrides),
    }
    check_named(request.input)

    if request.cleanup:
        params["cleanup"] = _may_remove(context, task_id, yes=request.yes)
    with taken_input(context, request.input) as given:
        accepted = _submit(context, params | given, config_path, config)
    staying = request.wait or request.follow
    _tell(context, accepted, staying=staying)
    if not staying:
        if request.as_json:
            context.console.json(_public(context, accepted))
        return 0
    try:
        manner = Manner.FOLLOW if request.follow else Manner.WAIT
        return follow_task(context, task_id, manner, as_json=request.as_json)
    except KeyboardInterrupt:
        return interrupted(context, task_id)


def _may_remove(context: Context, task_id: str, *, yes: bool) -> str | None:
    """The UUID of an ended task of that id, if there is one and a person agrees that it is removed."""
    with context.daemon_of_tasks() as peer:
        found = [] if peer is None else peer.call(rpc.CLEAN, {"tasks": [task_id]})["tasks"]
    return str(found[0]["uuid"]) if found and confirm(context, found, yes=yes) else None


def _submit(context: Context, params: dict[str, Any], path: Path, config: bytes) -> dict[str, Any]:
    """The daemon's acceptance. When the connection is lost in between, submits once more."""
    for last in (False, True):
        with context.daemon(with_worker=True) as peer:
            try:
                asked = {"input": params["input"], "overrides": params.get("overrides", {})}
                carried = config_params(context, peer, path, config, asked)
                accepted: dict[str, Any] = peer.call(rpc.SUBMIT, params | carried)
            except (DaemonUnavailable, ProtocolError):
                if last:
                    raise
                context.console.note(Text("the connection to the daemon was lost; submitting once more"))
            else:
                return accepted
    raise AssertionError("the second round returns or raises")


def _tell(context: Context, accepted: dict[str, Any], *, staying: bool) -> None:
    console = context.console
    for warning in accepted.get("warnings", ()):
        console.warning(Text.from_wire(warning))
    for note in accepted.get("notes", ()):
        console.note(Text.from_wire(note))
    values = {"id": accepted["task_id"], "model": accepted["model"], "service": accepted["service"]}
    went_on = Text("task {id} goes on: {model} at {service}", values)
    console.tell(
        went_on if accepted.get("went_on") else Text("task {id} is accepted: {model} at {service}", values)
    )
    reason = Text.from_wire(accepted.get("backend_reason"))
    if accepted.get("backend_reason"):
        console.tell(Text("backend {name}: {reason}", {"name": accepted["backend"], "reason": reason}))
    console.tell(Text("the outputs will be in {path}", {"path": accepted["outputs"]}))
    if not staying:
        console.tell(Text("to see it run: batch_infer -monitor {id}", values))


def _public(context: Context, accepted: dict[str, Any]) -> dict[str, Any]:
    """The acceptance with its texts in the language of the shell."""
    shown = {"schema": 1, **accepted}
    if shown.get("backend_reason"):
        shown["backend_reason"] = context.console.text(Text.from_wire(shown["backend_reason"]))
    for key in ("warnings", "notes"):
        shown[key] = [context.console.text(Text.from_wire(text)) for text in accepted.get(key, ())]
    return shown
