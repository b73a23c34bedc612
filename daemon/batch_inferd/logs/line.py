"""One line a record: `TIME LEVEL PROCESS[PID] task=ID chunk=N MESSAGE`, with `-` for what there is not.

The time is ISO 8601 with milliseconds and zone. Control characters in the message are escaped, so a
line is a record, and a stack trace is a long line.
"""

from __future__ import annotations

import logging
from datetime import datetime

from batch_inferd.logs.redact import redact

MESSAGE_CAP = 32 * 1024

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), 127, 0x85)}
_ESCAPES |= {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t", 0x2028: "\\u2028", 0x2029: "\\u2029"}


def format_line(
    t: float, level: int, message: str, *, process: str, task: str | None = None, chunk: int | None = None
) -> str:
    """A log line without its end. `t` is in unix seconds, `process` like `daemon[4711]`.

    A message over 32 KiB is cut, and says so.
    """
    if len(message) > MESSAGE_CAP:
        # Masked first: the cut must not leave a part of a secret that nobody recognizes.
        whole = redact(message)
        message = f"{whole[:MESSAGE_CAP]}… ({len(whole)} characters)"
    when = datetime.fromtimestamp(t).astimezone().isoformat(timespec="milliseconds")
    place = f"task={task or '-'} chunk={'-' if chunk is None else chunk}"
    return f"{when} {logging.getLevelName(level):<7} {process} {place} {message.translate(_ESCAPES)}"
