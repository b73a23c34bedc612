"""The logs of the tasks: `<task-id>_YYYYMMDD_HHMMSS.log`, named by when the task was created."""

from __future__ import annotations

import logging
import os
import re
import time
import traceback
from typing import TYPE_CHECKING

from batch_inferd.logs.line import format_line
from batch_inferd.logs.rotation import RotatingFile, prune

if TYPE_CHECKING:
    from pathlib import Path

    from batch_inferd.logs.writer import LogWriter

_log = logging.getLogger(__name__)


class TaskLogs:
    """A file a task. Logging never blocks and never fails; a task that is not open logs to the daemon's."""

    def __init__(self, directory: Path, writer: LogWriter) -> None:
        self._directory = directory
        self._writer = writer
        self._process = f"daemon[{os.getpid()}]"
        self._open: dict[str, tuple[RotatingFile, int]] = {}

    def open(self, task_id: str, created: float, *, level: int = logging.INFO, keep_days: float = 30) -> None:
        """Log `task_id` from now on, from `level` (of `logging`) up. `created` is in unix seconds.

        Opening again changes the level, or the file where the task is another one of that name. Files of
        earlier tasks of that name go after `keep_days`.
        """
        stamp = time.strftime("%Y%m%d_%H%M%S", time.localtime(created))
        path = self._directory / f"{task_id}_{stamp}.log"
        known = self._open.get(task_id)
        if known is not None and known[0].path == path:
            self._open[task_id] = (known[0], level)
            return
        self.close(task_id)
        prune(self._directory, re.compile(rf"{re.escape(task_id)}_\d{{8}}_\d{{6}}\.log"), keep_days)
        self._open[task_id] = (RotatingFile(path), level)

    def path(self, task_id: str) -> str:
        """Where the task's log stands; empty for a task that is not open."""
        known = self._open.get(task_id)
        return "" if known is None else str(known[0].path)

    def log(
        self,
        task_id: str,
        level: int,
        chunk: int | None,
        message: str,
        *,
        process: str | None = None,
        t: float | None = None,
    ) -> None:
        """A line. `process` (`worker[4711]`) is this daemon by default, `t` (unix seconds) is now."""
        known = self._open.get(task_id)
        if known is None:
            _log.log(level, "%s", message, extra={"task": task_id, "chunk": chunk})
            return
        file, threshold = known
        if level >= threshold:
            when = time.time() if t is None else t
            line = format_line(
                when, level, message, process=process or self._process, task=task_id, chunk=chunk
            )
            self._writer.write(file, line)

    def exception(self, task_id: str, message: str) -> None:
        """An error with the stack trace of the exception that is being handled."""
        self.log(task_id, logging.ERROR, None, f"{message}\n{traceback.format_exc()}")

    def close(self, task_id: str) -> None:
        """The task is over or forgotten: let go of its file."""
        known = self._open.pop(task_id, None)
        if known is not None:
            self._writer.release(known[0])
