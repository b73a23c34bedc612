"""The logs of the tasks: `<task-id>_YYYYMMDD_HHMMSS.log`, named by when the task was created."""

from __future__ import annotations

import logging
import os
import re
import time
import traceback
from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.logs.line import format_json, format_line, thread_name
from batch_inferd.logs.rotation import RotatingFile, prune

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batch_inferd.logs.writer import LogWriter

_log = logging.getLogger(__name__)


class _Opened(NamedTuple):
    file: RotatingFile
    level: int
    as_json: bool


class TaskLogs:
    """A file a task. Logging never blocks and never fails; a task that is not open logs to the daemon's."""

    def __init__(self, directory: Path, writer: LogWriter) -> None:
        self._directory = directory
        self._writer = writer
        self._process = f"daemon[{os.getpid()}]"
        self._open: dict[str, _Opened] = {}

    def open(
        self,
        task_id: str,
        created: float,
        *,
        level: int = logging.INFO,
        keep_days: float = 30,
        directory: Path | None = None,
        as_json: bool = False,
    ) -> None:
        """Log `task_id` from now on, from `level` (of `logging`) up. `created` is in unix seconds.

        Opening again changes the level and the form, or the file where it has another `directory`, or the
        task is another one of that name. Files there of earlier tasks of that name go after `keep_days`.
        """
        directory = directory or self._directory
        stamp = time.strftime("%Y%m%d_%H%M%S", time.localtime(created))
        path = directory / f"{task_id}_{stamp}.log"
        known = self._open.get(task_id)
        if known is not None and known.file.path == path:
            file = known.file
        else:
            if known is not None and known.file.path.name == path.name:
                self.log(task_id, logging.INFO, None, f"the log goes on in {path}")
            self.close(task_id)
            prune(directory, re.compile(rf"{re.escape(task_id)}_\d{{8}}_\d{{6}}\.log"), keep_days)
            file = RotatingFile(path)
        file.remark = self._remark(task_id) if as_json else str
        self._open[task_id] = _Opened(file, level, as_json)

    def _remark(self, task_id: str) -> Callable[[str], str]:
        process = self._process

        def as_line(text: str) -> str:
            now, thread = time.time(), thread_name()
            return format_json(now, logging.WARNING, text, process=process, thread=thread, task=task_id)

        return as_line

    def path(self, task_id: str) -> str:
        """Where the task's log stands; empty for a task that is not open."""
        known = self._open.get(task_id)
        return "" if known is None else str(known.file.path)

    def log(
        self,
        task_id: str,
        level: int,
        chunk: int | None,
        message: str,
        *,
        process: str | None = None,
        thread: str | None = None,
        t: float | None = None,
    ) -> None:
        """A line. `t` (unix seconds) is now by default.

        `process` (`worker[4711]`) and its `thread` (None: the main one) are this daemon and the calling
        thread by default.
        """
        known = self._open.get(task_id)
        if known is None:
            _log.log(level, "%s", message, extra={"task": task_id, "chunk": chunk})
            return
        if level >= known.level:
            when = time.time() if t is None else t
            form = format_json if known.as_json else format_line
            if process is None:
                process, thread = self._process, thread_name()
            line = form(when, level, message, process=process, thread=thread, task=task_id, chunk=chunk)
            self._writer.write(known.file, line)

    def exception(self, task_id: str, message: str) -> None:
        """An error with the stack trace of the exception that is being handled."""
        self.log(task_id, logging.ERROR, None, f"{message}\n{traceback.format_exc()}")

    def close(self, task_id: str) -> None:
        """The task is over or forgotten: let go of its file."""
        known = self._open.pop(task_id, None)
        if known is not None:
            self._writer.release(known.file)
