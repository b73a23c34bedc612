"""Locks that are held, not merely present: `.daemon.lock` and `.daemon.start.lock`.

The kernel gives them back when their holder dies. The files stay: whoever unlinks a lock file lets two
processes hold "the same" lock on two inodes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class HeldLock:
    """A lock in our hands until `release`, or until this process ends."""

    def __init__(self, path: Path, identity: tuple[int, int], release: Callable[[], None]) -> None:
        self.path = path
        self._identity = identity
        self._release = release

    def still_there(self) -> bool:
        """Whether the path still leads to the locked file. If not, another process can lock it too."""
        try:
            info = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return False
        return (info.st_dev, info.st_ino) == self._identity

    def release(self) -> None:
        """Give it back; the file stays."""
        self._release()


def acquire(path: Path, timeout: float = 0.0) -> HeldLock | None:
    """Take the lock at `path`, waiting at most `timeout` seconds; None when another process holds it.

    Raises OSError: the file cannot be made, or its file system has no locks.
    """
    # filelock takes 50 ms to import, and most commands need no lock.
    from filelock import FileLock, Timeout

    held: list[tuple[int, int]] = []

    def remember(fd: int) -> None:
        info = os.fstat(fd)
        held[:] = [(info.st_dev, info.st_ino)]

    lock = FileLock(
        path,
        mode=0o600,
        thread_local=False,
        poll_interval=0.02,
        fallback_to_soft=False,  # a soft lock is a file that is merely present
        preserve_lock_file=True,
        on_acquired=remember,
    )
    try:
        lock.acquire(timeout=max(timeout, 0.0))
    except Timeout:
        return None
    return HeldLock(path, held[0], lock.release)
