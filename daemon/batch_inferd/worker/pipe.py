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
OnEnd = Callable[[], object]


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
        except Exception:  # noqa: BLE001  a worker that does not listen any more must not live on
            _log.exception("a message of the daemon could not be handled")
        self._on_end()


class Channel:
    """The way out of one seat; see `Outbox`. Used by one thread."""

    def __init__(self, seat: int, put: Callable[[bytes, Channel], None]) -> None:
        self._fields = {"seat": seat} if seat else {}
        self._put = put
        self._queued = 0
        self.written = 0

    @property
    def idle(self) -> bool:
        """Whether all was written: reports wait for it, so that none queue up."""
        return self._queued == self.written

    def send(self, method: str, params: dict[str, Any]) -> None:
        """Queue a notification. Raises ProtocolError when it is over the frame cap."""
        frame = frames.encode(rpc.notification(method, params | self._fields))
        self._queued += 1
        self._put(frame, self)


class Outbox:
    """Writes messages in a thread of its own: a daemon that reads slowly never stalls the calls."""

    def __init__(self, fd: int, on_end: OnEnd) -> None:
        self._fd = fd
        self._on_end = on_end
        self._queue: queue.SimpleQueue[tuple[bytes, Channel] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def channel(self, seat: int = 0) -> Channel:
        """A way in for one thread; its messages are those of the seat of that number."""
        return Channel(seat, lambda frame, channel: self._queue.put((frame, channel)))

    def flush(self, timeout_s: float) -> None:
        """Write what is queued, then end; waits for it at most `timeout_s`."""
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while (queued := self._queue.get()) is not None:
                frame, channel = queued
                view = memoryview(frame)
                while view:
                    view = view[os.write(self._fd, view) :]
                channel.written += 1
            return
        self._on_end()
