"""Whether a service can be reached by one route: one prober for all records that take it.

While the link is down nothing is sent, and the prober tries to connect with backoff and jitter until it
can. The backoff starts anew only after a call came through: a port that is open in front of a broken
TLS or proxy would otherwise be asked in a tight circle.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

from batch_inferd.backends.plan import Retry
from batch_inferd.backends.transport import HttpTransport, NotSent
from batch_inferd.failures import network_text
from batch_inferd.worker.waits import half_jitter

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_infer.protocol.text import Text
    from batch_inferd.backends.online import Prepared
    from batch_inferd.seams.clock import Clock

_log = logging.getLogger(__name__)

MAX_PROBE_INTERVAL_S = 30.0
MAX_PROBE_S = 10.0  # a probe gives up earlier than a call may
# A check waits a moment: a dying process closes its connections one by one, and its port maybe last. All
# calls that fail in that time share the probe.
CHECK_DELAY_S = 0.2


class Down(NamedTuple):
    """Why nothing is sent. Times are wall times; `next_try` is None while a probe is under way."""

    text: Text
    since: float
    next_try: float | None


class Link:
    """One way to a service: its address and its proxy, on one account.

    `on_change` is called when it goes down and when it is back.
    """

    def __init__(self, transport: HttpTransport, clock: Clock, on_change: Callable[[], None]) -> None:
        self.down: Down | None = None
        self._transport = transport
        self._clock = clock
        self._on_change = on_change
        self._failures = 0
        self._retired = False
        self._prober: asyncio.Task[None] | None = None
        self._check: asyncio.Task[bool] | None = None

    def came_through(self) -> None:
        """A call reached the service: the next outage begins with short waits."""
        self._failures = 0

    def lost(self, error: NotSent, prepared: Prepared) -> bool:
        """Nothing was sent, for this reason. True if that is news: the prober starts now."""
        if self._retired or self.down is not None:
            return False
        self.down = Down(network_text(error), self._clock.now(), None)
        self._prober = asyncio.create_task(self._probe(prepared), name="prober")
        self._on_change()
        return True

    async def still_connects(self, prepared: Prepared) -> bool:
        """Whether the next connect succeeds, asked after a failed call; one probe for all."""
        if self.down is not None:
            return False
        if self._check is None or self._check.done():
            self._check = asyncio.create_task(self._check_once(prepared), name="link-check")
        return await asyncio.shield(self._check)

    def reset(self) -> None:
        """Stop probing, and let the next call find out."""
        if self._prober is not None:
            self._prober.cancel()
            self._prober = None
        if self.down is not None:
            self.down = None
            self._on_change()

    def retire(self) -> None:
        """No task takes this route any more: calls that are still under way on it start no prober."""
        self._retired = True
        self.reset()

    def close(self) -> None:
        """Stop for good."""
        for task in (self._prober, self._check):
            if task is not None:
                task.cancel()

    async def _check_once(self, prepared: Prepared) -> bool:
        await self._clock.sleep(CHECK_DELAY_S)
        error = await self._connect(prepared)
        if error is None:
            return True
        self.lost(error, prepared)
        return False

    async def _probe(self, prepared: Prepared) -> None:
        retry = prepared.plan.retry
        paced = Retry(base_s=retry.base_s, cap_s=min(retry.cap_s, MAX_PROBE_INTERVAL_S))
        error: NotSent | None = None
        while self.down is not None:
            self._failures += 1
            wait = half_jitter(paced, self._failures)
            try:
                text = self.down.text if error is None else network_text(error)
                self.down = Down(text, self.down.since, self._clock.now() + wait)
                self._on_change()
                await self._clock.sleep(wait)
                self.down = self.down._replace(next_try=None)
                error = await self._connect(prepared)
                if error is None:
                    self.down = None
                    self._on_change()
            except Exception:  # noqa: BLE001  without its prober the link would be down for ever
                _log.exception("a bug in the prober; it goes on")
                await self._clock.sleep(wait)

    async def _connect(self, prepared: Prepared) -> NotSent | None:
        plan = prepared.plan
        try:
            await self._transport.probe(plan.base_url, plan.proxy, min(plan.timeouts.connect, MAX_PROBE_S))
        except NotSent as error:
            return error
        return None
