"""The daemon from its lock to its end.

                 lock ── bind ── publish ── `ready` ── recovery ── open gate
                                                          │
      idle, daemon.stop, a signal, workspace gone ── close the door ── drain ── stop ── release
                                                                       (not when idle or gone)

A kill at any point is survived by the next daemon; this order only makes the end quick and polite. An end
that takes too long is cut short, see `lastresort`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import secrets
from typing import TYPE_CHECKING, Any

from batch_infer.protocol import rpc
from batch_infer.version import __version__
from batch_inferd.lifecycle import idle, lastresort, signals, socketwatch
from batch_inferd.lifecycle.presence import Presence
from batch_inferd.server import Identity, Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from batch_infer.protocol.locks import HeldLock
    from batch_infer.protocol.workspace import Workspace
    from batch_inferd.lifecycle.application import Application
    from batch_inferd.lifecycle.readiness import Readiness
    from batch_inferd.seams.clock import Clock
    from batch_inferd.server import Peer

_LAST_ANSWERS_S = 1.0

_log = logging.getLogger(__name__)


class Life:
    """One run of the daemon around its application. The caller holds the daemon lock before and after."""

    def __init__(
        self,
        workspace: Workspace,
        lock: HeldLock,
        app: Application,
        clock: Clock,
        last: contextlib.ExitStack,
        *,
        foreground: bool,
    ) -> None:
        """`last` is closed when nothing of this process runs any more, while it still holds its lock."""
        self._workspace = workspace
        self._lock = lock
        self._app = app
        self._clock = clock
        self._foreground = foreground
        self._environment_limit = idle.limit_from_environment()
        self._end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        handlers = {**app.handlers(), rpc.DAEMON_STATUS: self._status, rpc.DAEMON_STOP: self._stop}
        identity = Identity(secrets.token_hex(32), os.getpid(), __version__, clock.now())
        self._server = Server(handlers, identity, clock)
        self._presence = Presence(workspace, self._server)
        last.callback(self._presence.forget)

    async def run(self, readiness: Readiness) -> HeldLock | None:
        """Live until there is a reason to end. Returns the start lock, if it ended for idleness.

        Raises what the application's recovery raised, or OSError when the endpoint cannot be opened.
        """
        signals.Signals(self._ask_to_end)
        idle_lock: HeldLock | None = None
        try:
            await self._presence.open()
            readiness.ready()
            _log.info(
                "batch_inferd %s serves %s at %s", __version__, self._workspace.root, self._presence.endpoint
            )
            gone = asyncio.create_task(
                socketwatch.watch(self._workspace.root, self._lock, self._presence, self._clock), name="watch"
            )
            living = asyncio.create_task(self._live(), name="live")
            async with _cancelled_at_end(gone, living):
                ends: list[asyncio.Future[Any]] = [gone, living, self._end]
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                lastresort.arm()
                if living.done():
                    idle_lock = living.result()
                    _log.info("nothing to do any more: the daemon ends")
                elif gone.done():
                    _log.error("%s: the daemon ends", gone.result())
                else:
                    _log.info("%s: the daemon ends", self._end.result())
            if self._end.done():
                await self._drain()
        finally:
            await self._finish()
        return idle_lock

    async def _live(self) -> HeldLock:
        await self._app.start()
        _log.info("the tasks of this workspace are recovered")
        self._server.open_gate()
        return await idle.wait_idle(
            self._idle_limit,
            lambda: self._app.busy,
            self._workspace.start_lock,
            self._presence,
            self._server,
            self._clock,
        )

    def _idle_limit(self) -> float:
        """Seconds: of the environment, else of the application, else 30 min; endless in the foreground."""
        if self._environment_limit is not None:
            return self._environment_limit
        if self._foreground:
            return math.inf  # whoever started it there ends it there
        return self._app.idle_exit_s or idle.DEFAULT_S

    async def _drain(self) -> None:
        await self._presence.close(stopping=True)
        try:
            await self._app.drain()
        except Exception:  # noqa: BLE001  whatever it is, the end goes on
            _log.exception("the drain failed; the next daemon goes on from what is on disk")

    async def _finish(self) -> None:
        await self._presence.close()
        try:
            await self._app.stop()
        except Exception:  # noqa: BLE001  as above
            _log.exception("the application did not end in order")
        self._server.close()
        await self._server.wait_quiet(_LAST_ANSWERS_S)

    def _ask_to_end(self, reason: str) -> None:
        if not self._end.done():
            self._end.set_result(reason)

    async def _stop(self, _params: dict[str, Any], _peer: Peer) -> dict[str, Any]:
        """`daemon.stop`: end as at the first SIGTERM. Its shape never changes."""
        self._ask_to_end("a client asked for it")
        return {"stopping": True}

    async def _status(self, _params: dict[str, Any], _peer: Peer) -> dict[str, Any]:
        """`daemon.status`: its own part's shape never changes; the application adds to it."""
        identity = self._server.identity
        return {
            **self._app.status(),
            "pid": identity.pid,
            "version": identity.version,
            "started": identity.started,
            "workspace": str(self._workspace.root),
            "protocol": list(identity.protocol),
            "endpoint": self._presence.endpoint,
            "busy": self._app.busy,
            "connections": self._server.connections,
        }


@contextlib.asynccontextmanager
async def _cancelled_at_end(*tasks: asyncio.Task[Any]) -> AsyncIterator[None]:
    """Cancel what still runs, and wait for it, whichever way the block ends."""
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
