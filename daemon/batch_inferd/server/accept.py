"""Accepting clients: their user is checked, and running out of file descriptors is no reason to spin."""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import TYPE_CHECKING, Protocol

from batch_infer.protocol.transport.unix import UnixListener, foreign_uid
from batch_inferd.server.pipes import PipeAcceptor

if TYPE_CHECKING:
    import socket
    from collections.abc import Coroutine

    from batch_infer.protocol.transport import Listener
    from batch_inferd.server.server import Server

BACK_OFF_S = 0.5
_AT_ONCE = 64  # accepted before the loop does something else
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_log = logging.getLogger(__name__)


class Acceptor(Protocol):
    """Lets the clients of one listener in."""

    def start(self) -> None:
        """From now on."""

    async def stop(self) -> None:
        """Let in those who have connected already, then nobody. The listener is closed after this."""


def make_acceptor(listener: Listener, server: Server) -> Acceptor:
    """The acceptor for the listener of this platform."""
    if listener.endpoint.startswith("pipe:"):
        return PipeAcceptor(listener, server)
    assert isinstance(listener, UnixListener)  # noqa: S101  there is no third kind
    return UnixAcceptor(listener, server)


class UnixAcceptor:
    """Accepts on a Unix socket."""

    def __init__(self, listener: UnixListener, server: Server) -> None:
        self._sock = listener.sock
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False

    def start(self) -> None:
        """See `Acceptor.start`."""
        self._loop.add_reader(self._sock.fileno(), self._accept)

    async def stop(self) -> None:
        """See `Acceptor.stop`."""
        self._loop.remove_reader(self._sock.fileno())
        self._stopped = True
        self._accept()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                _log.warning("cannot accept a client: %s; trying again in %g s", error, BACK_OFF_S)
                self._loop.remove_reader(self._sock.fileno())
                if not self._stopped:
                    self._keep(self._come_back())
                return
            self._admit(connection)

    def _admit(self, connection: socket.socket) -> None:
        try:
            uid = foreign_uid(connection)
        except OSError:
            connection.close()  # it has hung up already
            return
        if uid is not None:
            self._server.turned_away(f"it is of user {uid}")
        elif self._server.has_room():
            self._keep(self._serve(connection))
            return
        connection.close()

    async def _serve(self, connection: socket.socket) -> None:
        try:
            connection.setblocking(False)
            await self._loop.connect_accepted_socket(self._server.new_link, connection)
        except OSError as error:
            connection.close()
            _log.warning("a client was lost at once: %s", error)

    async def _come_back(self) -> None:
        await self._server.clock.sleep(BACK_OFF_S)
        if not self._stopped:
            self.start()

    def _keep(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
