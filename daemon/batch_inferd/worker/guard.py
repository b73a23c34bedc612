"""The end of the worker when its daemon is gone: at once, and with nothing written any more."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

_PATIENCE_S = 2.0  # for a write that is under way; a disk that hangs must not keep the worker alive


class WriteGuard:
    """Held around each journal write; whoever notices the daemon's end takes it and exits.

    So a journal line is written whole or not at all, and no write begins after the end was noticed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def exit(self, status: int = 0) -> None:
        """Never release the lock again, and end the process. Any thread may call this."""
        self._lock.acquire(timeout=_PATIENCE_S)
        os._exit(status)
