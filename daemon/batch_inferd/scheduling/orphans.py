"""The folder of the worker processes, and ending those that an earlier daemon left in it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import stat
import time
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from batch_infer.protocol.process import boot_id, is_running
from batch_inferd.seams.files import Directory

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows ends a process at once for any signal


def make_private(folder: Path) -> None:
    """A folder of our own, 0700. Raises PermissionError: it is somebody else's, or a link.

    What stands in it names processes to be killed: nobody else may write it.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    info = os.lstat(folder)
    if not stat.S_ISDIR(info.st_mode) or (hasattr(os, "geteuid") and info.st_uid != os.geteuid()):
        raise PermissionError(errno.EPERM, "not a folder of your own", str(folder))
    if info.st_mode & 0o077:
        folder.chmod(0o700)


def end_orphans(folder: Path, timeout_s: float = 30.0, *, ours: Collection[str] = ()) -> int:
    """End the workers of an earlier daemon and wait for their locks; returns how many were alive.

    A worker ends by itself when its daemon's pipe closes; this makes sure of it before any journal is
    read. A recorded pid is only killed if its start time is the recorded one too. Those that bear the names
    `ours` are this daemon's. Raises TimeoutError.
    """
    ended = 0
    make_private(folder)
    directory = Directory(folder)
    for record in sorted(name for name in directory.listdir() if name.endswith(".json")):
        if record.removesuffix(".json") in ours:
            continue
        try:
            data = json.loads(directory.read(record))
            pid = int(data["pid"])
            if data["boot"] == boot_id() and is_running(pid, data["started"]) and pid != os.getpid():
                os.kill(pid, KILL)
                ended += 1
        except (ValueError, KeyError, TypeError, OSError):
            continue  # unreadable or gone: the lock below decides
    directory.close()
    deadline = time.monotonic() + timeout_s
    for lock_path in sorted(path for path in folder.glob("*.lock") if path.stem not in ours):
        lock = FileLock(lock_path, mode=0o600, timeout=max(0.0, deadline - time.monotonic()))
        try:
            with lock:
                pass
        except Timeout as error:
            raise TimeoutError(f"a worker of an earlier daemon still holds {lock_path}") from error
        for path in (lock_path, lock_path.with_suffix(".json")):
            with contextlib.suppress(OSError):
                path.unlink()
    return ended
