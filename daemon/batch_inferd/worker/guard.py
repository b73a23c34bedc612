"""The end of the worker when its daemon is gone: at once, and with nothing written any more."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from types import TracebackType

_PATIENCE_S = 2.0  # for writes that are under way; a disk that hangs must not keep the worker alive


class WriteGuard:
    """Held around each journal write of one seat; whoever ends the process takes it, and keeps it.

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

    def keep(self, timeout_s: float) -> None:
        """Never let go of it again. Waits at most `timeout_s` for a write."""
        self._lock.acquire(timeout=timeout_s)


class Guards:
    """The guards of all seats: each has its own, so that their writes do not wait for one another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._guards: list[WriteGuard] = []

    def new(self) -> WriteGuard:
        """One more seat writes."""
        guard = WriteGuard()
        with self._lock:  # no seat begins once `exit` has it
            self._guards.append(guard)
        return guard

    def exit(self, status: int = 0) -> NoReturn:
        """Let no seat write any more, and end the process. Any thread may call this."""
        self._lock.acquire()
        end = time.monotonic() + _PATIENCE_S
        for guard in self._guards:
            guard.keep(max(0.0, end - time.monotonic()))
        os._exit(status)
