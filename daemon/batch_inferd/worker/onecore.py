"""Keeping a worker on one core at a time.

The loop and the HTTP client's thread take turns, as both need the interpreter. On two cores they wait for
each other instead of running side by side, and a record costs half as much CPU time again.
"""

from __future__ import annotations

import contextlib
import os
import sys
import sysconfig
import threading
import time
from pathlib import Path

AVAILABLE = sys.platform == "linux" and not sysconfig.get_config_var("Py_GIL_DISABLED")
_HELD_S = 2.0
_FREE_S = 0.05  # the kernel puts a thread that wakes where nothing else runs
_PROCESSOR = 36  # fields of proc_pid_stat(5), counted from its third
_TIMES = slice(11, 13)
_TASKS = Path("/proc/self/task")


class OneCore:
    """All threads of this process stay on the core of the busiest one, and may choose again and again.

    Whoever places the process from outside (taskset, a container) is obeyed.
    """

    def __init__(self) -> None:
        self._allowed = os.sched_getaffinity(0)
        self._given = self._allowed

    def start(self) -> None:
        """Do so as long as the process lives, in a thread."""
        threading.Thread(target=self._run, name="one-core", daemon=True).start()

    def hold(self) -> None:
        """Stay on one core."""
        with contextlib.suppress(OSError, ValueError, IndexError):  # a thread has ended: the next time
            self._place({max(map(_looked_at, _TASKS.iterdir()))[1]})

    def release(self) -> None:
        """Let the kernel choose."""
        self._place(self._allowed)

    def _place(self, cores: set[int]) -> None:
        now = os.sched_getaffinity(0)
        if now != self._given:
            self._allowed = self._given = now
            return
        for thread in _TASKS.iterdir():
            with contextlib.suppress(OSError):
                os.sched_setaffinity(int(thread.name), cores)
        self._given = os.sched_getaffinity(0)

    def _run(self) -> None:
        while True:
            time.sleep(_FREE_S)
            if len(self._allowed) > 1:
                self.hold()
            time.sleep(_HELD_S)
            self.release()


def _looked_at(thread: Path) -> tuple[int, int]:
    """CPU time so far (ticks), and core, of a thread of this process."""
    fields = (thread / "stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[_TIMES])), int(fields[_PROCESSOR])
