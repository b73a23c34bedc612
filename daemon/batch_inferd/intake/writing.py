"""One writer at a time for a prepared file, whichever process or daemon it belongs to.

Beside the file `NAME` stands `.NAME.prepare.lock` while somebody writes; the kernel's lock on it is the
truth, what stands in it only names the holder.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from typing import TYPE_CHECKING, Any

from batch_infer.protocol import locks
from batch_infer.protocol.errors import InputError
from batch_infer.protocol.regular import open_regular
from batch_infer.protocol.text import Text

if TYPE_CHECKING:
    from pathlib import Path

# Whoever was interrupted still ends its last record, while the same command is given again.
PATIENCE_S = 3.0


class Writing:
    """The right to write a prepared file, until `end`."""

    def __init__(self, out: Path, owner: str, patience: float = PATIENCE_S) -> None:
        """Take it. `owner` (a workspace) is told to others. Blocks for `patience` seconds at most.

        Raises InputError: another one writes the file; OSError: it cannot be locked.
        """
        path = out.with_name(lock_name(out))
        lock = locks.acquire(path, patience)
        if lock is None:
            text, hints = _who(out, path)
            raise InputError(text, hints=hints)
        self._lock = lock
        holder = {"pid": os.getpid(), "host": platform.node(), "workspace": owner, "since": time.time()}
        try:
            with os.fdopen(open_regular(path, os.O_WRONLY | os.O_TRUNC, follow=False), "wb") as file:
                file.write(json.dumps(holder).encode())
        except BaseException:
            lock.release()
            raise

    def end(self) -> None:
        """Give it back."""
        with contextlib.suppress(OSError):  # Windows removes no open file; it does no harm there
            os.unlink(self._lock.path)  # first: who waits for it finds out that it is gone, and makes another
        self._lock.release()


def lock_name(out: Path) -> str:
    """The file that is locked while `out` is written."""
    return f".{out.name}.prepare.lock"


def _who(out: Path, lock: Path) -> tuple[Text, tuple[Text, ...]]:
    hints = (Text("wait for it, or give another name after -out"),)
    try:
        with os.fdopen(open_regular(lock, follow=False), "rb") as file:
            holder: Any = json.loads(file.read())
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(holder["since"])))
        words = {name: str(holder[name]) for name in ("pid", "host", "workspace")}
    except (OSError, ValueError, TypeError, KeyError, OverflowError):
        return Text("another -prepare writes the file {path} now", {"path": str(out)}), hints
    text = Text(
        "another -prepare writes the file {path} since {since}: that of the workspace {workspace} "
        "(process {pid} on {host})",
        {"path": str(out), "since": since, **words},
    )
    return text, hints
