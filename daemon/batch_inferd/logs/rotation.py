"""A log file with a size: when it is full it becomes `.1`, `.1` becomes `.2`, and the last one goes."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re
    from collections.abc import Callable
    from pathlib import Path

MAX_BYTES = 50 * 1024 * 1024
BACKUPS = 4  # beside the newest: five files in all
_LOOK_EVERY_S = 1.0
_FLAGS = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_APPEND
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_BINARY", 0)
)


class RotatingFile:
    """Appends to `path` (0600). Used by one thread. Made when first written to.

    `remark` makes a line of what the writer itself has to say.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = MAX_BYTES,
        backups: int = BACKUPS,
        remark: Callable[[str], str] = str,
    ) -> None:
        self.path = path
        self.remark = remark
        self._max_bytes = max_bytes
        self._backups = backups
        self._fd = -1
        self._size = 0
        self._looked = 0.0

    def write(self, data: bytes) -> None:
        """Append, in a new file if this one would become too large. Raises OSError."""
        if self._fd >= 0 and time.monotonic() - self._looked >= _LOOK_EVERY_S:
            self._look()
        if self._fd < 0:
            self._open()
        if self._size and self._size + len(data) > self._max_bytes:
            self._rotate()
        view = memoryview(data)
        while view:
            written = os.write(self._fd, view)
            self._size += written
            view = view[written:]

    def close(self) -> None:
        """Let go of the file; the next write opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        with contextlib.suppress(FileExistsError):
            # Only the folder itself: where the workspace is gone, nothing comes back.
            os.mkdir(self.path.parent, 0o700)
        self._fd = os.open(self.path, _FLAGS, 0o600)
        self._size = os.fstat(self._fd).st_size
        self._looked = time.monotonic()

    def _look(self) -> None:
        """Somebody may have removed or moved the file: then a new one is made."""
        self._looked = time.monotonic()
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except OSError:
            self.close()
            return
        here = os.fstat(self._fd)
        if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
            self.close()

    def _rotate(self) -> None:
        self.close()
        names = [self.path, *(self.path.with_name(f"{self.path.name}.{n + 1}") for n in range(self._backups))]
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            with contextlib.suppress(FileNotFoundError):
                os.replace(newer, older)
        if not self._backups:
            os.unlink(self.path)
        self._open()


def prune(directory: Path, name: re.Pattern[str], days: float) -> None:
    """Remove log files whose names begin with `name` and that nobody wrote to for `days`. Never raises."""
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if not name.match(entry.name):
                continue
            with contextlib.suppress(OSError):
                if time.time() - entry.stat(follow_symlinks=False).st_mtime > days * 86400:
                    os.unlink(entry.path)
