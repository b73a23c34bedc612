"""Whose workspace is it? The words for a `.daemon.lock` that is held, or cannot be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_infer.protocol import beacon as beacons
from batch_infer.protocol.errors import DaemonUnavailable
from batch_infer.protocol.text import Text

if TYPE_CHECKING:
    from batch_infer.protocol.workspace import Workspace


def held_by_another(workspace: Workspace, reason: str) -> DaemonUnavailable:
    """The daemon lock is held, and its holder does not answer us, for `reason`.

    Names its pid where that is certain.
    """
    beacon = beacons.read(workspace.beacon)
    pid = beacons.living_pid(beacon)
    if pid is None:
        return DaemonUnavailable(
            Text(
                "another process, which one is unknown, holds the workspace {path} and does not answer",
                {"path": str(workspace.root)},
            ),
            hints=(
                Text("it may run on another machine that shares this directory, or in a container"),
                Text("the last try to connect: {reason}", {"reason": reason}),
            ),
        )
    values = {"pid": pid, "path": str(workspace.root)}
    if beacon is not None and beacon.stopping:
        return DaemonUnavailable(
            Text("the daemon (process {pid}) is ending, and still holds the workspace {path}", values),
            hints=(Text("try again in a moment"), Text("or end it at once: kill -9 {pid}", values)),
        )
    return DaemonUnavailable(
        Text("the daemon (process {pid}) holds the workspace {path}, but does not answer", values),
        hints=(
            Text("the last try to connect: {reason}", {"reason": reason}),
            Text("see {path}", {"path": str(workspace.logs)}),
            Text("if it hangs, end it: kill -9 {pid}; no recorded answer is lost", values),
        ),
    )


def cannot_lock(workspace: Workspace, error: OSError) -> DaemonUnavailable:
    """A lock file cannot be made or locked."""
    return DaemonUnavailable(
        Text(
            "the workspace {path} cannot be locked: {error}",
            {"path": str(workspace.root), "error": error.strerror or str(error)},
        ),
        hints=(Text("a workspace must be writable, on a file system with locks"),),
    )
