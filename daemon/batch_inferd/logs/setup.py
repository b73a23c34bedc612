"""The daemon's own log: everything that Python's loggers say, in `daemon_YYYYMMDD.log`, a file a day."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import threading
import time
from typing import TYPE_CHECKING

from batch_inferd.logs.line import format_line
from batch_inferd.logs.redact import redact
from batch_inferd.logs.rotation import RotatingFile, prune
from batch_inferd.logs.tasklogs import TaskLogs
from batch_inferd.logs.writer import LogWriter

if TYPE_CHECKING:
    from pathlib import Path

KEEP_DAYS = 30
_QUIET = ("aiohttp.access", "httpcore", "httpx")  # a line a request, from their point of view


class DaemonHandler(logging.Handler):
    """Sends records to the file of their day, and to stderr in the foreground."""

    def __init__(self, directory: Path, writer: LogWriter, *, foreground: bool) -> None:
        super().__init__()
        self._directory = directory
        self._writer = writer
        self._foreground = foreground
        self._process = f"daemon[{os.getpid()}]"
        self._day = ""
        self._file: RotatingFile | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record. Formatted here: its values may change afterwards."""
        try:
            line = self._line(record)
        except Exception:  # noqa: BLE001  a wrong %s in a log call must not become an error of the caller
            self.handleError(record)
            return
        self._writer.write(self._file_of(record.created), line)
        if self._foreground:
            with contextlib.suppress(OSError, ValueError):
                print(redact(line), file=sys.stderr, flush=True)  # noqa: T201  a container's log

    def _line(self, record: logging.LogRecord) -> str:
        message = f"{record.name}: {record.getMessage()}"
        if record.exc_info:
            message += "\n" + logging.Formatter().formatException(record.exc_info)
        return format_line(
            record.created,
            record.levelno,
            message,
            process=self._process,
            thread=None if record.thread == threading.main_thread().ident else record.threadName,
            task=getattr(record, "task", None),
            chunk=getattr(record, "chunk", None),
        )

    def _file_of(self, t: float) -> RotatingFile:
        day = time.strftime("%Y%m%d", time.localtime(t))
        if self._file is None or day != self._day:
            if self._file is not None:
                self._writer.release(self._file)
            self._day, self._file = day, RotatingFile(self._directory / f"daemon_{day}.log")
        return self._file


class Logs:
    """All logs of the daemon, from `start` to `close`."""

    def __init__(self, directory: Path, *, foreground: bool, level: int) -> None:
        self._writer = LogWriter()
        self._handler = DaemonHandler(directory, self._writer, foreground=foreground)
        self._root_level = logging.getLogger().level
        self.tasks = TaskLogs(directory, self._writer)
        root = logging.getLogger()
        root.addHandler(self._handler)
        root.setLevel(level)
        for name in _QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)
        logging.captureWarnings(capture=True)

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until all that was logged is written; whether that took less than `timeout` seconds."""
        return self._writer.flush(timeout)

    def close(self) -> None:
        """Write what is left, and leave Python's logging as it was."""
        logging.captureWarnings(capture=False)
        logging.getLogger().removeHandler(self._handler)
        logging.getLogger().setLevel(self._root_level)
        self._writer.close()


def start(directory: Path, *, foreground: bool = False, level: int = logging.INFO) -> Logs:
    """Log to `directory` from now on; old files of the daemon go after 30 days."""
    prune(directory, re.compile(r"daemon_\d{8}\.log"), KEEP_DAYS)
    return Logs(directory, foreground=foreground, level=level)
