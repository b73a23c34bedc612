"""One client's connection: frames in, answers and notifications out, everything bounded.

- Before hello: 4 KiB a frame, 5 s of time. After: 1 MiB a frame, 16 requests at a time, then it is not
  read from until one is answered.
- A client that does not read is not read from either. Answers wait in a buffer of at most 4 MiB, then
  it is dropped. Notifications wait as the latest a key.
- A frame that breaks the rules ends the connection, with a word only to a greeted client.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, cast

from batch_infer.protocol import frames, rpc
from batch_infer.protocol.errors import Incompatible, ProtocolError
from batch_inferd.server.dispatch import Request, failure
from batch_inferd.server.greeting import Stranger, greet

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_inferd.server.server import Server

HELLO_TIMEOUT_S = 5.0
REQUESTS_AT_ONCE = 16
WRITE_HIGH = 64 * 1024
WRITE_CAP = 4 * 1024 * 1024
PUSH_KEYS = 1024

_log = logging.getLogger(__name__)


class Link(asyncio.Protocol):
    """A connection; to the handlers it is the `Peer`."""

    def __init__(self, server: Server) -> None:
        self.greeted = False
        self.incompatible: Incompatible | None = None
        self.in_flight = 0
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._writable = True
        self._pushes: dict[str, dict[str, Any]] = {}
        self._callbacks: list[Callable[[], None]] = []
        self._deadline: asyncio.Task[None] | None = None

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        self._transport = cast("asyncio.Transport", transport)  # a stream has no other kind
        self._transport.set_write_buffer_limits(high=WRITE_HIGH)
        self._deadline = asyncio.create_task(self._expire(), name="hello-deadline")
        self._server.opened(self)

    def data_received(self, data: bytes) -> None:
        """Bytes came, at most 256 KiB of them."""
        self._buffer += data
        self._parse()

    def eof_received(self) -> bool:
        """It will send no more. Whoever wants an answer stays, so the connection ends."""
        return False

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self._writable = False
        self._steer()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._writable = True
        while self._writable and self._pushes:
            self._send_push(self._pushes.pop(next(iter(self._pushes))))
        self._parse()  # requests may wait in the buffer, with nothing more to come

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio names it
        """It is over."""
        self._transport = None
        self._buffer.clear()
        self._pushes.clear()
        self._end_deadline()
        self._server.lost(self)
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception:  # noqa: BLE001  whatever it is, the others are called
                _log.exception("a callback at the end of a connection failed")

    # handlers call these

    @property
    def closed(self) -> bool:
        """See `Peer.closed`."""
        return self._transport is None or self._transport.is_closing()

    def push(self, key: str, message: dict[str, Any]) -> None:
        """See `Peer.push`."""
        if self.closed:
            return
        if self._writable:
            self._send_push(message)
            return
        self._pushes.pop(key, None)
        self._pushes[key] = message
        if len(self._pushes) > PUSH_KEYS:
            del self._pushes[next(iter(self._pushes))]

    def on_close(self, callback: Callable[[], None]) -> None:
        """See `Peer.on_close`."""
        if self.closed:
            callback()
        else:
            self._callbacks.append(callback)

    # the server calls these

    def close(self) -> None:
        """Hang up after what is buffered has been sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Hang up at once."""
        if self._transport is not None:
            self._transport.abort()

    def answered(self, frame: bytes) -> None:
        """A request of this link has its answer."""
        self.in_flight -= 1
        self._write(frame)
        self._parse()

    # inside

    async def _expire(self) -> None:
        await self._server.clock.sleep(HELLO_TIMEOUT_S)
        self.abort()

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _parse(self) -> None:
        """Take whole frames from the buffer as long as their requests may run."""
        try:
            while not self.closed and self._may_read():
                message = self._next()
                if message is None:
                    break
                self._take(message)
        except Stranger:
            self._server.turned_away("a wrong hello")
            self.abort()
        except ProtocolError as error:
            self._server.turned_away(str(error))
            if self.greeted:
                self._write(failure(None, error))
                self.close()
            else:
                self.abort()
        self._steer()

    def _next(self) -> dict[str, Any] | None:
        if len(self._buffer) < frames.HEADER.size:
            return None
        cap = frames.FRAME_CAP if self.greeted else frames.HELLO_CAP
        end = frames.HEADER.size + frames.body_length(bytes(self._buffer[: frames.HEADER.size]), cap)
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[frames.HEADER.size : end])
        del self._buffer[:end]
        return frames.decode(body)

    def _take(self, message: dict[str, Any]) -> None:
        if not self.greeted:
            self._greet(message)
            return
        request = Request(message)
        if self.incompatible is not None and request.method not in rpc.FROZEN:
            self._write(failure(request.id, self.incompatible))
            return
        self.in_flight += 1
        self._server.run(request, self)

    def _greet(self, message: dict[str, Any]) -> None:
        call_id = message.get("id")
        if not isinstance(call_id, int | str):
            raise Stranger
        try:
            frame = frames.encode(rpc.result(call_id, greet(message, self._server.identity)))
        except Incompatible as error:
            self.incompatible = error
            frame = failure(call_id, error)
        self.greeted = True
        self._end_deadline()
        self._server.greeted(self)
        self._write(frame)

    def _may_read(self) -> bool:
        return self._writable and self.in_flight < REQUESTS_AT_ONCE

    def _steer(self) -> None:
        """Read from the client exactly while its requests may run."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._may_read():
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _send_push(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(ProtocolError):
            self._write(frames.encode(message))
            return
        _log.error("a notification is over the cap of a frame: %.200r", message)

    def _write(self, frame: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(frame)
        if self._transport.get_write_buffer_size() > WRITE_CAP:
            self._server.turned_away("a client does not read its answers")
            self.abort()
