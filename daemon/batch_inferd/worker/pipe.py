"""The pipe to the daemon: a thread that reads, a thread that writes, and frames in both directions."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
from collections.abc import Callable
from typing import Any

from batch_infer.protocol import frames, rpc
from batch_infer.protocol.errors import ProtocolError

_log = logging.getLogger(__name__)

OnMessage = Callable[[str, dict[str, Any]], None]
OnEnd = Callable[[], None]


class Inbox:
    """Reads messages in a thread of its own: the daemon's end is noticed while the loop is busy."""

    def __init__(self, fd: int, on_message: OnMessage, on_end: OnEnd) -> None:
        """`on_message` and `on_end` are called in that thread; nothing comes after `on_end`."""
        self._fd = fd
        self._on_message = on_message
        self._on_end = on_end

    def start(self) -> None:
        """Begin to read."""
        threading.Thread(target=self._run, name="inbox", daemon=True).start()

    def _run(self) -> None:
        try:
            while (message := frames.read_blocking(lambda count: os.read(self._fd, count))) is not None:
                method, params = message.get("method"), message.get("params")
                if isinstance(method, str) and isinstance(params, dict):
                    self._on_message(method, params)
        except (OSError, ProtocolError) as error:
            _log.warning("the pipe from the daemon ended badly: %s", error)
        self._on_end()


class Outbox:
    """Writes messages in a thread of its own: a daemon that reads slowly never stalls the calls."""

    def __init__(self, fd: int, on_end: OnEnd) -> None:
        self._fd = fd
        self._on_end = on_end
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._queued = 0
        self._written = 0

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Whether all was written: reports wait for it, so that none queue up."""
        return self._queued == self._written

    def send(self, method: str, params: dict[str, Any]) -> None:
        """Queue a notification. Raises ProtocolError when it is over the frame cap."""
        frame = frames.encode(rpc.notification(method, params))
        self._queued += 1
        self._queue.put(frame)

    def flush(self, timeout_s: float) -> None:
        """Write what is queued, then end; waits for it at most `timeout_s`."""
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while (frame := self._queue.get()) is not None:
                view = memoryview(frame)
                while view:
                    view = view[os.write(self._fd, view) :]
                self._written += 1
            return
        self._on_end()
