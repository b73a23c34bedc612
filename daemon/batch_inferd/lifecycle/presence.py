"""Being found: the open endpoint, the acceptor on it, and the beacon that tells where it is."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from batch_infer.protocol import beacon as beacons
from batch_infer.protocol import transport
from batch_inferd.server.accept import make_acceptor

if TYPE_CHECKING:
    from batch_infer.protocol.transport import Listener
    from batch_infer.protocol.workspace import Workspace
    from batch_inferd.server.accept import Acceptor
    from batch_inferd.server.server import Server

_log = logging.getLogger(__name__)


class Presence:
    """Opened, closed, and healed, any number of times. The daemon lock must be held all the while."""

    def __init__(self, workspace: Workspace, server: Server) -> None:
        self._workspace = workspace
        self._server = server
        self._listener: Listener | None = None
        self._acceptor: Acceptor | None = None
        self._beacon: beacons.Beacon | None = None
        self._wanted = False
        self._changing = asyncio.Lock()

    @property
    def endpoint(self) -> str:
        """Where clients connect; empty while closed."""
        return self._listener.endpoint if self._listener else ""

    async def open(self) -> None:
        """Bind, listen, publish. Raises OSError; then `heal` tries again."""
        self._wanted = True
        async with self._changing:
            self._open()

    async def close(self, *, stopping: bool = False) -> None:
        """Let nobody new in, once those are in who have connected already.

        With `stopping`, the beacon stays and says that the daemon is ending.
        """
        self._wanted = False
        async with self._changing:
            endpoint = self.endpoint
            await self._close()
            if stopping:
                try:
                    self._publish(endpoint, stopping=True)
                except OSError as error:
                    _log.warning("cannot say in %s that the daemon ends: %s", self._workspace.beacon, error)

    async def heal(self) -> None:
        """Bind again if the socket is gone, publish again if the beacon is. Raises OSError."""
        async with self._changing:
            if not self._wanted:
                return
            if self._listener is None or not self._listener.present():
                _log.warning("the socket %s is gone: making it again", self.endpoint)
                await self._close()
                self._open()
            elif beacons.read(self._workspace.beacon) != self._beacon:
                _log.warning("%s was changed or removed: writing it again", self._workspace.beacon)
                self._publish(self._listener.endpoint)

    def _open(self) -> None:
        listener = transport.listen(self._workspace.root)
        try:
            self._publish(listener.endpoint)
        except OSError:
            listener.withdraw()
            listener.close()
            raise
        self._acceptor = make_acceptor(listener, self._server)
        self._acceptor.start()
        self._listener = listener

    async def _close(self) -> None:
        listener, acceptor = self._listener, self._acceptor
        self._listener = self._acceptor = None
        if listener is None or acceptor is None:
            return
        listener.withdraw()
        await acceptor.stop()
        listener.close()

    def forget(self) -> None:
        """Remove the beacon: the daemon's last act before it lets the workspace go."""
        beacons.remove(self._workspace.beacon, self._server.identity.secret)

    def _publish(self, endpoint: str, *, stopping: bool = False) -> None:
        identity = self._server.identity
        self._beacon = beacons.of_this_process(
            endpoint, identity.secret, identity.protocol, identity.version, stopping=stopping
        )
        beacons.write(self._workspace.beacon, self._beacon)
