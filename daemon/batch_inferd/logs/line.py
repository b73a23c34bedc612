"""One line a record: `TIME LEVEL PROCESS[PID] task=ID chunk=N MESSAGE`, or a JSON object.

A line that another thread than the main one wrote has `PROCESS[PID]/THREAD`.

The time is ISO 8601 with milliseconds and zone. Control characters in the message are escaped, so a
line is a record, and a stack trace is a long line. What there is not is `-`, or null.
"""

from __future__ import annotations

import json
import logging
import threading
from datetime import datetime

from batch_inferd.logs.redact import redact

MESSAGE_CAP = 32 * 1024

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), 127, 0x85)}
_ESCAPES |= {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t", 0x2028: "\\u2028", 0x2029: "\\u2029"}
_JSON_ESCAPES = {code: f"\\u{code:04x}" for code in (127, 0x85, 0x2028, 0x2029)}  # json leaves them


def thread_name() -> str | None:
    """The name of the calling thread; None for the main one."""
    thread = threading.current_thread()
    return None if thread is threading.main_thread() else thread.name


def format_line(
    t: float,
    level: int,
    message: str,
    *,
    process: str,
    thread: str | None = None,
    task: str | None = None,
    chunk: int | None = None,
) -> str:
    """A log line without its end. `t` is in unix seconds, `process` like `daemon[4711]`.

    `thread` is None for the main one; white space in it becomes `_`. A message over 32 KiB is cut, and
    says so.
    """
    place = f"task={task or '-'} chunk={'-' if chunk is None else chunk}"
    text = _capped(message).translate(_ESCAPES)
    if thread is not None:
        process += "/" + "_".join(thread.split()).translate(_ESCAPES)
    return f"{_when(t)} {logging.getLevelName(level):<7} {process} {place} {text}"


def format_json(
    t: float,
    level: int,
    message: str,
    *,
    process: str,
    thread: str | None = None,
    task: str | None = None,
    chunk: int | None = None,
) -> str:
    """As `format_line`, as an object: `time`, `level`, `process`, `thread`, `task`, `chunk`, `message`."""
    record = {
        "time": _when(t),
        "level": logging.getLevelName(level).lower(),
        "process": process,
        "thread": thread,
        "task": task,
        "chunk": chunk,
        "message": _capped(message),
    }
    return json.dumps(record, ensure_ascii=False).translate(_JSON_ESCAPES)


def _when(t: float) -> str:
    return datetime.fromtimestamp(t).astimezone().isoformat(timespec="milliseconds")


def _capped(message: str) -> str:
    if len(message) <= MESSAGE_CAP:
        return message
    # Masked first: the cut must not leave a part of a secret that nobody recognizes.
    whole = redact(message)
    return f"{whole[:MESSAGE_CAP]}… ({len(whole)} characters)"
