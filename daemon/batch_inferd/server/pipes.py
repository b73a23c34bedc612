"""Accepting clients on a named pipe of Windows: an instance of the pipe each, on the proactor loop.

asyncio's `start_serving_pipe` makes its instances itself, without a security descriptor and open to
other machines. So this does what it does, with the instances of `PipeListener`.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batch_infer.protocol.transport import Listener
    from batch_inferd.server.server import Server

BACK_OFF_S = 0.5

_log = logging.getLogger(__name__)


class PipeAcceptor:
    """Accepts on a pipe; see `batch_inferd.server.accept.Acceptor`."""

    def __init__(self, listener: Listener, server: Server) -> None:
        self._listener: Any = listener
        self._server = server
        # These two are no public API of asyncio, but the only way to a pipe transport.
        self._loop: Any = asyncio.get_running_loop()
        self._wrap = _pipe_handle()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """See `Acceptor.start`."""
        self._task = asyncio.create_task(self._accept(), name="accept")

    async def stop(self) -> None:
        """See `Acceptor.stop`: the one waiting instance goes; connected clients are with the server."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _accept(self) -> None:
        while True:
            pipe = None
            try:
                pipe = self._wrap(self._listener.instance())
                await self._loop._proactor.accept_pipe(pipe)  # noqa: SLF001
                if self._server.has_room():
                    self._loop._make_duplex_pipe_transport(pipe, self._server.new_link())  # noqa: SLF001
                    pipe = None
            except OSError as error:
                _log.warning("cannot accept a client: %s; trying again in %g s", error, BACK_OFF_S)
                await self._server.clock.sleep(BACK_OFF_S)
            finally:
                if pipe is not None:
                    pipe.close()


def _pipe_handle() -> Any:
    return importlib.import_module("asyncio.windows_utils").PipeHandle  # exists on Windows only
