"""A blocking connection to the daemon: hello, requests and their answers, notifications.

The wire conversation stands in `batch_infer.protocol.rpc`. A connection belongs to one thread. No
asyncio here: `-list` should be quick.
"""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Self

from batch_infer.protocol import frames, rpc
from batch_infer.protocol.errors import BatchInferError, DaemonUnavailable, Incompatible, from_wire
from batch_infer.protocol.process import is_running, start_token
from batch_infer.protocol.text import Text
from batch_infer.protocol.transport import Channel, connect
from batch_infer.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batch_infer.protocol.beacon import Beacon

CALL_TIMEOUT_S = 60.0
_CHUNK = 64 * 1024
_KEPT = 256  # notifications that came while an answer was waited for; older ones are outdated anyway


_LOOK_S = 0.01  # between two looks at a process that is ending


class NoAnswerError(Exception):
    """No daemon of ours is there: no socket, nobody listens, the end before hello was answered.

    Its text is the reason. What a beacon says does not count against that: it may be stale, or have come
    with a copied workspace; whether a daemon lives, its lock tells.
    """


class Connection:
    """An accepted hello. `pid`, `version` and `started` (unix seconds) are the daemon's.

    `incompatible` is the daemon's refusal where it speaks no protocol of ours (only with
    `any_version`); then it still answers `daemon.status` and `daemon.stop`.
    """

    def __init__(self, channel: Channel) -> None:
        self.pid = 0
        self.version = ""
        self.started = 0.0
        self.protocol = rpc.PROTOCOL_MAX
        self.incompatible: Incompatible | None = None
        self._channel = channel
        self._buffer = bytearray()
        self._last_id = 0
        self._notifications: deque[dict[str, Any]] = deque(maxlen=_KEPT)

    @classmethod
    def open(cls, beacon: Beacon, *, timeout: float, any_version: bool = False) -> Connection:
        """Connect and say hello, within `timeout` seconds together.

        Raises NoAnswerError, Incompatible (unless `any_version`), or DaemonUnavailable: the daemon took
        the connection and says nothing.
        """
        deadline = time.monotonic() + timeout
        try:
            channel = connect(beacon.endpoint, timeout)
        except TimeoutError as error:
            raise _silent(beacon.pid, timeout) from error
        except (OSError, ValueError) as error:
            raise NoAnswerError(str(error)) from error
        connection = cls(channel)
        try:
            connection._hello(beacon.secret, deadline)
        except TimeoutError as error:
            connection.close()
            raise _silent(beacon.pid, timeout) from error
        except BaseException:
            connection.close()
            raise
        if connection.incompatible and not any_version:
            connection.close()
            raise connection.incompatible
        return connection

    def call(
        self, method: str, params: dict[str, Any] | None = None, timeout: float = CALL_TIMEOUT_S
    ) -> dict[str, Any]:
        """Ask and wait for the answer, at most `timeout` seconds.

        Raises the daemon's error as the class it had there, or DaemonUnavailable when the connection
        ends or the time is up (whether the daemon did it is then unknown).
        """
        deadline = time.monotonic() + timeout
        try:
            return self._ask(method, params, frames.FRAME_CAP, deadline)
        except TimeoutError as error:
            raise _unanswered(method, timeout) from error
        except OSError as error:
            raise _gone() from error

    def call_long(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        tell: Callable[[dict[str, Any]], None] | None = None,
        silence: float = CALL_TIMEOUT_S,
    ) -> dict[str, Any]:
        """As `call`, for what may take hours: the daemon says now and then how far it is.

        `tell` gets the params of each `working` notification. Hanging up ends the request. Raises
        DaemonUnavailable when nothing was heard for `silence` seconds.
        """
        try:
            call_id = self._send(method, params, frames.FRAME_CAP, time.monotonic() + silence)
            heard = time.monotonic()
            while True:
                try:
                    message = self._read(time.monotonic() + 1.0)  # pieces, as in `wait`
                except TimeoutError:
                    if time.monotonic() - heard >= silence:
                        raise
                    continue
                heard = time.monotonic()
                if message.get("method") == rpc.WORKING:
                    if tell is not None:
                        tell(message.get("params") or {})
                    continue
                answer = self._take(message, call_id)
                if answer is not None:
                    return _result(answer)
        except TimeoutError as error:
            raise _unanswered(method, silence) from error
        except OSError as error:
            raise _gone() from error

    def subscribe(
        self, tasks: list[str] | None = None, timeout: float = CALL_TIMEOUT_S
    ) -> Iterator[dict[str, Any]]:
        """The states of the tasks (None: of all), then each change as it is pushed.

        Yields the `params` of progress notifications, the full `{"tasks": […]}` first. The request is
        made at once. The iterator raises DaemonUnavailable when the daemon ends.
        """
        first = self.call(rpc.SUBSCRIBE, {"tasks": tasks}, timeout)

        def progress() -> Iterator[dict[str, Any]]:
            yield first
            while True:
                message = self.wait(timeout=None)
                if message is not None and message.get("method") == rpc.PROGRESS:
                    yield message.get("params") or {}

        return progress()

    def wait(self, timeout: float | None) -> dict[str, Any] | None:
        """The next notification `{"method", "params"}`; None when `timeout` seconds brought none.

        `timeout=None` waits as long as the daemon lives. Raises DaemonUnavailable when it ends.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while not self._notifications:
                # The pieces keep Ctrl-C working on Windows, where a wait in the kernel cannot be broken.
                left = 1.0 if deadline is None else min(deadline - time.monotonic(), 1.0)
                try:
                    self._take(self._read(time.monotonic() + left), 0)
                except TimeoutError:
                    if deadline is not None and time.monotonic() >= deadline:
                        return None
        except OSError as error:
            raise _gone() from error
        return self._notifications.popleft()

    def wait_closed(self, timeout: float) -> bool:
        """Whether the daemon hangs up within `timeout` seconds, and its process is gone by then too.

        What follows may remove or reuse its workspace.
        """
        deadline = time.monotonic() + timeout
        token = start_token(self.pid) if self.pid != os.getpid() else None
        try:
            while time.monotonic() < deadline:
                self._read(deadline)
        except TimeoutError:
            return False
        except (OSError, BatchInferError):
            while token is not None and is_running(self.pid, token):
                if time.monotonic() >= deadline:
                    return False
                time.sleep(_LOOK_S)
            return True
        return False

    def close(self) -> None:
        """Hang up. What the daemon accepted goes on without us."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _hello(self, secret: str, deadline: float) -> None:
        params = {"protocol": [rpc.PROTOCOL_MIN, rpc.PROTOCOL_MAX], "secret": secret, "version": __version__}
        try:
            answer = self._ask(rpc.HELLO, params, frames.HELLO_CAP, deadline)
        except Incompatible as error:
            self.incompatible = error
            return
        except ConnectionError as error:
            # It ended, refused our secret (the beacon may be an old one), or has no room.
            raise NoAnswerError(str(error)) from error
        self.pid = int(answer.get("pid", 0))
        self.version = str(answer.get("version", ""))
        self.started = float(answer.get("started", 0.0))
        self.protocol = int(answer.get("protocol", 0))

    def _ask(self, method: str, params: dict[str, Any] | None, cap: int, deadline: float) -> dict[str, Any]:
        call_id = self._send(method, params, cap, deadline)
        while True:
            answer = self._take(self._read(deadline), call_id)
            if answer is not None:
                return _result(answer)

    def _send(self, method: str, params: dict[str, Any] | None, cap: int, deadline: float) -> int:
        """Send a request; its id."""
        self._last_id += 1
        data = frames.encode(rpc.request(self._last_id, method, params), cap)
        self._channel.send(data, deadline - time.monotonic())
        return self._last_id

    def _take(self, message: dict[str, Any], call_id: int) -> dict[str, Any] | None:
        """The message, if it answers `call_id`; a notification is kept, another answer came too late."""
        if "method" in message:
            self._notifications.append(message)
            return None
        # An error without an id is about the stream itself: the daemon hangs up after it.
        wanted = message.get("id") == call_id or (message.get("id") is None and "error" in message)
        return message if wanted else None

    def _read(self, deadline: float) -> dict[str, Any]:
        """The next message. Half a frame stays in the buffer when the time is up (TimeoutError)."""
        while True:
            if len(self._buffer) >= frames.HEADER.size:
                end = frames.HEADER.size + frames.body_length(
                    bytes(self._buffer[: frames.HEADER.size]), frames.FRAME_CAP
                )
                if len(self._buffer) >= end:
                    body = bytes(self._buffer[frames.HEADER.size : end])
                    del self._buffer[:end]
                    return frames.decode(body)
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            part = self._channel.receive(_CHUNK, left)
            if not part:
                raise ConnectionResetError("the daemon closed the connection")
            self._buffer += part


def _result(answer: dict[str, Any]) -> dict[str, Any]:
    """What an answer brings. Raises the error that it tells."""
    if "error" in answer:
        error = answer["error"]
        raise from_wire(error if isinstance(error, dict) else {})
    result = answer.get("result")
    return result if isinstance(result, dict) else {}


def _unanswered(method: str, seconds: float) -> DaemonUnavailable:
    return DaemonUnavailable(
        Text(
            "the daemon did not answer {method} within {seconds} s",
            {"method": method, "seconds": f"{seconds:g}"},
        )
    )


def _silent(pid: int, seconds: float) -> DaemonUnavailable:
    return DaemonUnavailable(
        Text(
            "the daemon (process {pid}) took the connection, but said nothing for {seconds} s",
            {"pid": pid, "seconds": f"{seconds:g}"},
        )
    )


def _gone() -> DaemonUnavailable:
    return DaemonUnavailable(
        Text("the daemon ended, or closed the connection"),
        hints=(Text("the same command again starts it; logs/ says why it ended"),),
    )
