"""All connections of the daemon together: how many there may be, and who runs their requests."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from batch_infer.protocol import rpc
from batch_inferd.server.dispatch import Request, answer
from batch_inferd.server.link import Link

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_inferd.seams.clock import Clock
    from batch_inferd.server.greeting import Identity
    from batch_inferd.server.peer import Handler

CONNECTIONS = 256
UNGREETED = 64  # of these, the oldest makes room for a newcomer, which may be an honest one
_COMPLAIN_EVERY_S = 60.0

_log = logging.getLogger(__name__)


class Server:
    """Serves links; accepting them is the business of `batch_inferd.server.accept`.

    Requests other than `daemon.status` and `daemon.stop` wait until `open_gate`: the daemon is
    reachable before it has recovered its tasks.
    """

    def __init__(self, handlers: Mapping[str, Handler], identity: Identity, clock: Clock) -> None:
        self.identity = identity
        self.clock = clock
        self.last_request = clock.monotonic()
        self._handlers = handlers
        self._links: set[Link] = set()
        self._ungreeted: dict[Link, None] = {}  # in the order in which they came
        self._running: set[asyncio.Task[None]] = set()
        self._gate = asyncio.Event()
        self._complained = -_COMPLAIN_EVERY_S
        self._complaints = 0

    def open_gate(self) -> None:
        """The tasks are recovered: let the waiting requests run."""
        self._gate.set()

    @property
    def in_flight(self) -> int:
        """Requests that are not answered yet."""
        return len(self._running)

    @property
    def connections(self) -> int:
        """Clients that are connected, greeted or not."""
        return len(self._links)

    def has_room(self) -> bool:
        """Whether one more client may come; if not, it is turned away."""
        if len(self._links) < CONNECTIONS:
            return True
        self.turned_away("too many connections")
        return False

    def new_link(self) -> Link:
        """The protocol for an accepted connection."""
        return Link(self)

    def close(self) -> None:
        """Hang up on everybody. What they were promised is on disk."""
        for link in tuple(self._links):
            link.close()

    async def wait_quiet(self, at_most: float) -> None:
        """Return once all clients have hung up and all requests are answered, or after `at_most` s."""
        deadline = self.clock.monotonic() + at_most
        while (self._links or self._running) and self.clock.monotonic() < deadline:
            await self.clock.sleep(0.02)

    def turned_away(self, reason: str) -> None:
        """Log that a client was refused, at most once a minute: a flood must not fill the log."""
        self._complaints += 1
        now = self.clock.monotonic()
        if now - self._complained >= _COMPLAIN_EVERY_S:
            _log.warning("turned a client away: %s (%d since the last such line)", reason, self._complaints)
            self._complained = now
            self._complaints = 0

    # links call these

    def opened(self, link: Link) -> None:
        """A client came; the oldest of too many silent ones goes."""
        self._links.add(link)
        self._ungreeted[link] = None
        if len(self._ungreeted) > UNGREETED:
            self.turned_away("too many connections without a hello")
            oldest = next(iter(self._ungreeted))
            del self._ungreeted[oldest]
            oldest.abort()

    def greeted(self, link: Link) -> None:
        """A client said hello."""
        self._ungreeted.pop(link, None)

    def lost(self, link: Link) -> None:
        """A client is gone."""
        self._links.discard(link)
        self._ungreeted.pop(link, None)

    def run(self, request: Request, link: Link) -> None:
        """Run a request. It goes on when its client hangs up: what was accepted does not depend on it."""
        self.last_request = self.clock.monotonic()
        task = asyncio.create_task(self._run(request, link), name=f"request {request.method}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, request: Request, link: Link) -> None:
        if request.method not in rpc.FROZEN:
            await self._gate.wait()
        link.answered(await answer(self._handlers, request, link))
