"""The providers of the tasks that have jobs here: made at a task's first job, kept for the next ones."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from batch_inferd.backends.batch.provider import BatchProvider
    from batch_inferd.backends.online import Prepared
    from batch_inferd.backends.plan import RequestPlan
    from batch_inferd.seams.clock import Clock

    Make = Callable[[RequestPlan, Clock], BatchProvider]

_log = logging.getLogger(__name__)


class _Entry:
    def __init__(self, prepared: Prepared, provider: BatchProvider) -> None:
        self.prepared = prepared
        self.provider = provider
        self.users = 0


class Providers:
    """One provider a task, under its newest plan. All methods belong to the loop."""

    def __init__(self, make: Make, clock: Clock) -> None:
        self._make = make
        self._clock = clock
        self._entries: dict[str, _Entry] = {}

    @contextlib.asynccontextmanager
    async def use(self, prepared: Prepared) -> AsyncIterator[BatchProvider]:
        """The provider of a plan, as long as the block lasts."""
        task = prepared.plan.task
        entry = self._entries.get(task)
        if entry is None or entry.prepared is not prepared:
            await self.forget(task)
            entry = _Entry(prepared, self._make(prepared.plan, self._clock))
            self._entries[task] = entry
        entry.users += 1
        try:
            yield entry.provider
        finally:
            entry.users -= 1
            if self._entries.get(task) is not entry:
                await _close(entry)

    async def forget(self, task: str) -> None:
        """Close the provider of a task, which holds secrets; at the end of its last job if it has any."""
        entry = self._entries.pop(task, None)
        if entry is not None:
            await _close(entry)

    async def close(self) -> None:
        """Close all."""
        for task in tuple(self._entries):
            await self.forget(task)


async def _close(entry: _Entry) -> None:
    if entry.users:
        return
    try:
        await entry.provider.close()
    except Exception:  # noqa: BLE001  its calls are over: nothing is lost with it
        _log.exception("a provider could not be closed")
