"""`doctor`: is everything there that a task needs? Sends no record, and stores nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_inferd.doctor.examine import examine
from batch_inferd.requests.params import submission

if TYPE_CHECKING:
    from batch_inferd.app import App
    from batch_inferd.server.peer import Peer


async def handle(app: App, params: dict[str, Any], _peer: Peer) -> dict[str, Any]:
    """`{checks: [{name, ok, text, hint}…], ok}`; `config` and what goes with it may be left out."""
    sent = submission(params) if params.get("config") is not None else None
    checks = await examine(app.context.workspace, app.context.clock, sent)
    return {
        "checks": [check.to_wire() for check in checks],
        "ok": all(check.ok is not False for check in checks),
    }
