"""The thread that writes all logs: whoever logs only queues, and a full disk disturbs nobody.

The queue is bounded by 8 MiB of text. What does not fit, or cannot be written, is counted, and the
count is written as soon as that works again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from batch_inferd.logs.redact import redact

if TYPE_CHECKING:
    from batch_inferd.logs.rotation import RotatingFile

QUEUE_CAP = 8 * 1024 * 1024
_RETRY_S = 1.0


class LogWriter:
    """A queue of lines and the thread that empties it. Thread-safe."""

    def __init__(self, cap: int = QUEUE_CAP) -> None:
        self._cap = cap
        self._queue: deque[tuple[RotatingFile, str | None]] = deque()  # None closes the file
        self._size = 0
        self._busy = False
        self._closed = False
        self._condition = threading.Condition()
        self._lost: dict[RotatingFile, tuple[int, str]] = {}
        self._blocked_until: dict[RotatingFile, float] = {}
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True)
        self._thread.start()

    def write(self, file: RotatingFile, line: str) -> None:
        """Queue a line (without its end). Never blocks for the disk, never raises."""
        with self._condition:
            if self._closed:
                return
            if self._size + len(line) > self._cap:
                self._note_loss(file, 1, "too many lines at once")
                return
            self._queue.append((file, line))
            self._size += len(line)
            self._condition.notify_all()

    def release(self, file: RotatingFile) -> None:
        """Close `file` after what is queued for it."""
        with self._condition:
            self._queue.append((file, None))
            self._condition.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until all that is queued has been written (or given up); whether it was in time."""
        with self._condition:
            return self._condition.wait_for(lambda: not self._queue and not self._busy, timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Write what is queued, within `timeout` seconds, and end."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._condition:
                self._busy = False
                self._condition.notify_all()
                self._condition.wait_for(lambda: self._queue or self._closed)
                if not self._queue:
                    return
                taken, self._queue = self._queue, deque()
                self._size = 0
                self._busy = True
            lines: dict[RotatingFile, list[str]] = {}
            for file, line in taken:
                if line is not None:
                    lines.setdefault(file, []).append(line)
                    continue
                self._append(file, lines.pop(file, []))
                self._forget(file)
            for file, batch in lines.items():
                self._append(file, batch)

    def _append(self, file: RotatingFile, batch: list[str]) -> None:
        if not batch:
            return
        if time.monotonic() < self._blocked_until.get(file, 0.0):
            with self._condition:
                self._note_loss(file, len(batch), self._lost.get(file, (0, ""))[1])
            return
        with self._condition:
            lost = self._lost.pop(file, None)
        if lost is not None:
            batch = [file.remark(f"({lost[0]} lines were lost here: {lost[1]})"), *batch]
        data = redact("\n".join(batch) + "\n").encode("utf-8", "backslashreplace")
        try:
            file.write(data)
        except OSError as error:
            file.close()
            self._blocked_until[file] = time.monotonic() + _RETRY_S
            count = len(batch) if lost is None else len(batch) - 1 + lost[0]
            with self._condition:
                self._note_loss(file, count, str(error))

    def _note_loss(self, file: RotatingFile, count: int, reason: str) -> None:
        """Under the condition's lock."""
        before, earlier = self._lost.get(file, (0, ""))
        self._lost[file] = (before + count, reason or earlier)

    def _forget(self, file: RotatingFile) -> None:
        file.close()
        self._blocked_until.pop(file, None)
        with self._condition:
            self._lost.pop(file, None)
