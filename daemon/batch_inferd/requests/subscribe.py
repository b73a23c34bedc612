"""`subscribe`: progress is pushed on this connection from now on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_inferd.requests.pages import summaries

if TYPE_CHECKING:
    from batch_inferd.app import App
    from batch_inferd.server.peer import Peer

_FIRST = 200


async def handle(app: App, params: dict[str, Any], peer: Peer) -> dict[str, Any]:
    """`{tasks: [SUMMARY…]}` of some tasks (`tasks: [id…]`) or of all (`tasks: null`), as they are now.

    A page at most: who wants all of very many asks `list`.
    """
    wanted = params.get("tasks")
    if wanted is None:
        await app.registry.discover()
        tasks = [app.registry.tasks[name] for name in sorted(app.registry.tasks)]
        app.hub.subscribe(peer, None)
    else:
        tasks = [await app.registry.find(str(task_id)) for task_id in wanted[:_FIRST]]
        app.hub.subscribe(peer, [task.id for task in tasks])
    return {"tasks": summaries(tasks), "daemon": app.machine()}
