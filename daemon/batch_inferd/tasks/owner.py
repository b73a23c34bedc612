"""Who a task belongs to: a machine and a workspace. A moved or copied folder does not run by itself."""

from __future__ import annotations

import socket
import uuid
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batch_infer.protocol.workspace import Workspace


@cache
def machine_id() -> str:
    """An id of this machine that survives reboots: /etc/machine-id, else network address and name."""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            continue
        if text:
            return text
    return f"{uuid.getnode():012x}-{socket.gethostname()}"


def owner_of(workspace: Workspace, task_id: str) -> dict[str, Any]:
    """The owner fact of a task that lives in `workspace` under the name `task_id`."""
    return {"machine": machine_id(), "workspace": str(workspace.root), "name": task_id}
