"""Telling the client that started us: one line, `ready` or the error as JSON, then the pipe closes."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batch_infer.protocol.errors import BatchInferError
    from batch_infer.protocol.locks import HeldLock


class Readiness:
    """The readiness pipe; without one (in the foreground) all of this is nothing."""

    def __init__(self, fd: int | None) -> None:
        """Take over the pipe `fd`. No child inherits it; where it was stdout, stdout goes to stderr."""
        self._fd = -1
        self._start_lock: HeldLock | None = None
        if fd is None:
            return
        self._fd = os.dup(fd)  # never inheritable: a worker must not keep the client waiting
        if fd == 1:
            os.dup2(2, 1)
        else:
            os.close(fd)

    @property
    def has_starter(self) -> bool:
        """Whether a client waits for us, and holds the start lock."""
        return self._fd >= 0

    def hold(self, start_lock: HeldLock) -> None:
        """Release `start_lock` once it is clear whether there will be a daemon."""
        self._start_lock = start_lock

    def ready(self) -> None:
        """Clients can connect."""
        self._tell(b"ready\n")

    def failed(self, error: BatchInferError) -> None:
        """There will be no daemon, and why. After `ready` nobody listens any more."""
        self._tell(json.dumps(error.to_wire()).encode() + b"\n")

    def _tell(self, line: bytes) -> None:
        if self._start_lock is not None:
            self._start_lock.release()
            self._start_lock = None
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):  # the client has lost its patience; the daemon runs all the same
            os.write(self._fd, line)
        os.close(self._fd)
        self._fd = -1
