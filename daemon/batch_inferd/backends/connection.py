"""One HTTP/1.1 connection: a request out, its answer in, one after the other.

The parser is llhttp's, by httptools: it refuses what is no HTTP. What an answer may cost in memory is bounded
here: its head, and how much of its body is held before somebody takes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import sys
from typing import Any, cast

import httptools

from batch_inferd.backends.transport import LARGE, SentFailed

if sys.platform == "linux":
    import fcntl
    import termios

# Read at once over TLS: more than the loops' TLS holds back (256 KB) and one record of it. What did not fit
# would be read a moment later, and be lost to an end of the connection that comes before.
READ_BYTES = 320 * 1024
_PLAIN_BYTES = 64 * 1024  # without TLS, what is not read waits in the system
_OTHER_BYTES = 400 * 1024  # of an answer that are no body, in one go: its head, what stands between chunks
_HEADERS = 200
_JOINED = 64 * 1024  # a longer body is not copied behind its head
_NO_BODY = frozenset({204, 304})
# Seconds without a word before the system asks whether the other side is still there, and between its
# questions; how many of them may stay unanswered. Routers forget a quiet connection in minutes.
_QUIET_S, _ASK_S, _ASKED = 30, 15, 6


class Connection(asyncio.BufferedProtocol):
    """`buffer` is what the loop reads into: one for all connections of a loop.

    `heard` is when the last byte came, or the request went; while nothing is read it lies in the future.
    `due` is when the call has to be over. Both in the loop's time.
    """

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        # A length beside chunks does not count: the chunks do (RFC 9112, 6.3).
        self._parser.set_dangerous_leniencies(lenient_chunked_length=True)
        self._poll: select.poll | None = None
        self._fd = -1
        self._tls = False
        self._long = False  # the body that was sent last may still lie in this process
        self.closed = False
        self.kept_at = 0.0  # when it was put by
        self.heard = self.due = self.read_s = 0.0
        self._begin()

    def _begin(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.length: int | None = None  # of the body, as it was told; None: it was not
        self.complete = False
        self.failure: SentFailed | None = None
        self.changed: asyncio.Future[None] | None = None  # done once `complete`, failed, or more than is held
        self._parts: list[bytes] = []
        self._held = 0  # bytes in them
        self._other = 0  # bytes since the last piece of the body
        self._head_done = False
        self._to_the_end = False  # the body ends with the connection
        self._lasting = False  # the connection may serve again
        self._paused = False

    # the request

    def send(self, head: bytes, body: bytes, *, due: float, read_s: float) -> asyncio.Future[None]:
        """Send a request; `head` lacks the length. Returns `changed`."""
        self._begin()
        self.due, self.read_s = due, read_s
        self.heard = self._loop.time()
        self.changed = changed = self._loop.create_future()
        transport = self._transport
        if transport is None or self.closed:
            raise RuntimeError("the connection is closed")
        self._long = len(body) > _JOINED
        if not self._long:
            transport.write(b"%b%d\r\n\r\n%b" % (head, len(body), body))
        else:
            transport.write(b"%b%d\r\n\r\n" % (head, len(body)))
            transport.write(body)
        return changed

    # the answer

    def take(self) -> list[bytes]:
        """What has come of the body and was not taken yet: in one piece, however many chunks it came in."""
        parts, self._parts, self._held = self._parts, [], 0
        return parts if len(parts) < 2 else [b"".join(parts)]

    def whole(self, max_bytes: int) -> bytes | None:
        """The body: mostly it is short, complete, not compressed. None where it is not, or is too long."""
        if not self.complete or self._held > max_bytes or b"content-encoding" in self.headers:
            return None
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    async def more(self) -> None:
        """Read on; return when there is something to take, or the end."""
        if self.complete or self.failure is not None:
            return
        self.changed = self._loop.create_future()
        if self._paused and self._transport is not None:
            self._paused = False
            self.heard = self._loop.time()
            self._transport.resume_reading()
        await self.changed

    def fail(self, reason: str, detail: str) -> None:
        """The answer will not come: the call fails, and the connection is shut."""
        if not self.complete and self.failure is None:
            self.failure = SentFailed(reason, detail)
        self._tell()
        self.abort()

    def _hold(self) -> None:
        """Enough of the body is here: somebody has to take it."""
        if not self._paused and self._transport is not None and not self.closed:
            self._paused = True
            self.heard = float("inf")  # nobody listens
            self._transport.pause_reading()
        self._tell()

    def _tell(self) -> None:
        if self.changed is not None and not self.changed.done():
            self.changed.set_result(None)

    # its life

    @property
    def reusable(self) -> bool:
        """Whether another request may follow the answer that has come."""
        if not self._lasting or self.closed or self._transport is None or self._transport.is_closing():
            return False
        if self._transport.get_write_buffer_size():
            return False
        if not self._tls or not self._long:
            return True
        # The transport under TLS does not tell what it holds: nothing, once the other side has all that the
        # system was given.
        return self._fd >= 0 and all_is_heard(self._fd)

    @property
    def quiet(self) -> bool:
        """Whether nothing has come since the last answer, not even the end of the connection."""
        if self.closed or self._transport is None or self._transport.is_closing():
            return False
        return self._poll is None or not self._poll.poll(0)

    def abort(self) -> None:
        """Shut it at once."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    # what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's have no such class above them
        self._tls = transport.get_extra_info("ssl_object") is not None
        if self._tls:
            keep_unread_below(self._transport)
        else:
            self._buffer = self._buffer[:_PLAIN_BYTES]
        sock = transport.get_extra_info("socket")
        if sock is None:
            return
        notice_the_dead(sock)
        self._fd = sock.fileno()
        if hasattr(select, "poll"):  # not on Windows
            self._poll = select.poll()
            self._poll.register(self._fd, select.POLLIN)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Where the next bytes go."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """They have come."""
        if self._parser is None or self.changed is None or self.complete:
            self.abort()  # nobody asked
            return
        self.heard = self._loop.time()
        self._other += nbytes
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                self.fail("unparsable", f"the answer is not HTTP: {str(error)[:200]}")
            self._lasting = False
            return
        if not self.complete and (self._other > _OTHER_BYTES or len(self.headers) > _HEADERS):
            self.fail("unparsable", "the answer is not HTTP: what is no body of it has no end")

    def eof_received(self) -> None:
        """The other side says no more, perhaps before it has heard all."""
        self._over(None)
        self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """It is closed."""
        self.closed = True
        self._over(error)
        self._transport, self._parser = None, None

    def _over(self, error: Exception | None) -> None:
        """Nothing more will come."""
        if self.changed is not None and not self.complete and self.failure is None:
            if self._to_the_end and error is None:
                self.complete = True
            elif self._head_done:
                self.failure = SentFailed("truncated", "the answer ended in its middle")
            elif error is None:
                self.failure = SentFailed("reset", "the service closed the connection without an answer")
            else:
                self.failure = SentFailed("reset", "the connection broke")
        self._tell()

    # what the parser calls

    def on_message_begin(self) -> None:
        """An answer begins."""
        if self.complete:
            self._lasting = False  # more than was asked for

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header. What comes behind the body is not looked at."""
        if not self._head_done:
            self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """The head is over."""
        if self.complete:
            return  # of what nobody asked for
        parser = self._parser
        self.status = 0 if parser is None else parser.get_status_code()
        if self.status < 200:
            return  # provisional: the answer is still to come
        self._head_done = True
        headers = self.headers
        transfer = headers.get(b"transfer-encoding")
        if transfer is not None:
            if transfer.strip().lower() != b"chunked":
                self.fail("unparsable", "the answer is not HTTP: it comes in a way that was not asked for")
        elif self.status not in _NO_BODY:
            length = headers.get(b"content-length")
            if length is None:
                self._to_the_end = True
            else:
                self.length = int(length)
                if self.length > LARGE:
                    self._hold()

    def on_body(self, data: bytes) -> None:
        """A piece of it."""
        if self.complete:
            return
        self._other = 0
        self._parts.append(data)
        self._held += len(data)
        if self._held > LARGE:
            self._hold()

    def on_message_complete(self) -> None:
        """The answer has come whole, or a provisional one."""
        if self.complete or self.failure is not None:
            return
        if not self._head_done:
            self.headers = {}
            return
        self.complete = True
        self._lasting = self._parser is not None and self._parser.should_keep_alive()
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        self._tell()


def keep_unread_below(transport: asyncio.Transport) -> None:
    """Let what is not read over TLS wait in the system, and not above its socket.

    The loops' TLS reads on while nobody takes what it has read, and when the connection ends, that is lost.
    """
    set_limits = getattr(transport, "set_read_buffer_limits", None)
    if set_limits is not None:
        set_limits(1, 0)


def all_is_heard(fd: int) -> bool:
    """Whether the other side has acknowledged all that a socket was given; False where nobody knows."""
    if sys.platform != "linux":
        return False
    try:
        size = fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4))  # tcp(7): SIOCOUTQ, which is the same number
    except OSError:  # the loop has closed it, and will say so in a moment
        return False
    return not int.from_bytes(size, sys.byteorder)


def notice_the_dead(sock: Any) -> None:
    """Let the system find out about a peer that has gone without a word."""
    with contextlib.suppress(OSError):  # the other side has reset it: the loop is about to tell
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (
            ("TCP_KEEPIDLE", _QUIET_S),
            ("TCP_KEEPINTVL", _ASK_S),
            ("TCP_KEEPCNT", _ASKED),
        ):
            option = getattr(socket, name, None)  # each system has some of them
            if option is not None:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
