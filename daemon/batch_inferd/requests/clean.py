"""`clean`: remove tasks that have ended. Asked without `remove`, it says which ones that would be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from batch_infer.protocol.errors import BatchInferError, ProtocolError, TaskConflict
from batch_infer.protocol.text import Text
from batch_inferd.checks.content import Tick
from batch_inferd.requests.long import accompany
from batch_inferd.tasks.removing import remove, why_not

if TYPE_CHECKING:
    from batch_inferd.app import App
    from batch_inferd.server.peer import Peer
    from batch_inferd.tasks.task import Task

MOST = 1000  # tasks at a time


async def handle(app: App, params: dict[str, Any], peer: Peer) -> dict[str, Any]:
    """`{tasks, kept, refused, more}`, or with `remove` `{removed, refused}`; pushes `working`.

    `tasks` names those that are meant; absent: all that have ended. `keep_latest` leaves out the newest.
    `remove` is a list of `[task_id, uuid]`, as `tasks` told them: no other task of that name is removed.
    """
    if params.get("remove") is None:
        return await _candidates(app, _names(params), keep_latest=bool(params.get("keep_latest")))
    chosen = _pairs(params)
    tick = Tick(total=len(chosen))
    return await accompany(app, peer, _remove_all(app, chosen, tick), tick, tick.stop)


async def _candidates(app: App, names: list[str] | None, *, keep_latest: bool) -> dict[str, Any]:
    found: list[Task] = []
    refused: list[dict[str, Any]] = []
    if names is None:
        await app.registry.discover()
        found = [task for task in app.registry.tasks.values() if why_not(task) is None]
    for name in names or ():
        try:
            task = await app.registry.find(name)
        except BatchInferError as error:
            refused.append(_refusal(name, error.code, error.text, error.hints))
            continue
        why = why_not(task)
        if why is None:
            found.append(task)
        else:
            refused.append(_refusal(name, TaskConflict.code, why))
    found.sort(key=lambda task: (float(task.facts.get("created") or 0.0), task.id))
    kept = found.pop().id if keep_latest and found else None
    rows = [
        {
            "task_id": task.id,
            "uuid": task.uuid,
            "state": task.state,
            "created": task.facts.get("created"),
            "answers": task.progress.total("answered"),
        }
        for task in found[:MOST]
    ]
    return {"tasks": rows, "kept": kept, "refused": refused, "more": len(found) > MOST}


async def _remove_all(app: App, chosen: list[tuple[str, str]], tick: Tick) -> dict[str, Any]:
    removed: list[str] = []
    refused: list[dict[str, Any]] = []
    for name, uuid in chosen:
        try:
            tick.add(1)
            async with app.registry.lock(name):
                task = await app.registry.find(name)
                why = why_not(task)
                if why is None and task.uuid != uuid:
                    why = Text("it is another task than the one that was shown")
                if why is not None:
                    refused.append(_refusal(name, TaskConflict.code, why))
                    continue
                await remove(app.registry, task)
                removed.append(name)
        except BatchInferError as error:
            refused.append(_refusal(name, error.code, error.text, error.hints))
        except OSError as error:
            text = Text("it could not be removed: {reason}", {"reason": error.strerror or str(error)})
            refused.append(_refusal(name, "io", text))
    return {"removed": removed, "refused": refused}


def _refusal(name: str, code: str, text: Text, hints: tuple[Text, ...] = ()) -> dict[str, Any]:
    told = [hint.to_wire() for hint in hints]
    return {"task_id": name, "error": code, "text": text.to_wire(), "hints": told}


def _names(params: dict[str, Any]) -> list[str] | None:
    if params.get("tasks") is None:
        return None
    return list(dict.fromkeys(_convert(params["tasks"], list[str], "tasks")))


def _pairs(params: dict[str, Any]) -> list[tuple[str, str]]:
    return list(dict.fromkeys(_convert(params["remove"], list[tuple[str, str]], "remove")))


def _convert(value: Any, kind: Any, name: str) -> Any:
    try:
        found = msgspec.convert(value, kind)
    except msgspec.ValidationError:
        found = []
    if not 0 < len(found) <= MOST:
        raise ProtocolError(
            Text("the parameter {name} must be a list of 1 to {most} entries", {"name": name, "most": MOST})
        )
    return found
