"""The daemon's lock: whoever holds `.daemon.lock` is the daemon of the workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_infer.protocol import beacon as beacons
from batch_infer.protocol import holding, locks
from batch_infer.protocol.errors import DaemonUnavailable
from batch_infer.protocol.text import Text

if TYPE_CHECKING:
    from batch_infer.protocol.locks import HeldLock
    from batch_infer.protocol.workspace import Workspace

START_LOCK_TIMEOUT_S = 30.0


def take(workspace: Workspace) -> HeldLock:
    """Take the workspace, for the life of this process. It is never stolen and the file never removed.

    Raises DaemonUnavailable: another daemon has it, or it cannot be locked.
    """
    try:
        lock = locks.acquire(workspace.lock)
    except OSError as error:
        raise holding.cannot_lock(workspace, error) from error
    if lock is not None:
        return lock
    where = {"path": str(workspace.root)}
    pid = beacons.living_pid(beacons.read(workspace.beacon))
    if pid is None:
        raise DaemonUnavailable(
            Text("another process, which one is unknown, holds the workspace {path}", where),
            hints=(Text("it may run on another machine that shares this directory, or in a container"),),
        )
    raise DaemonUnavailable(
        Text("a daemon (process {pid}) already runs in the workspace {path}", {"pid": pid, **where}),
        hints=(Text("use it as it is, or end it first: batch_infer -daemon stop"),),
    )


def take_start_lock(workspace: Workspace) -> HeldLock:
    """The start lock, for a daemon that no client starts. Raises DaemonUnavailable."""
    try:
        lock = locks.acquire(workspace.start_lock, START_LOCK_TIMEOUT_S)
    except OSError as error:
        raise holding.cannot_lock(workspace, error) from error
    if lock is None:
        raise DaemonUnavailable(Text("another process is starting or ending the daemon of this workspace"))
    return lock
