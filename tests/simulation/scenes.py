"""A run of some minutes against one service, and what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

import virtual
from services import Service
from world import Daemon, Task

from batch_inferd.scheduling.limits import Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from services import Limit

ENDLESS = 10**7
OPEN = Limits(concurrency=64, most=1024)


@contextlib.asynccontextmanager
async def running(*daemons: Daemon) -> AsyncIterator[None]:
    """Daemons at work; at the end nothing of them is left."""
    for daemon in daemons:
        daemon.start()
    try:
        yield
    finally:
        for daemon in daemons:
            await daemon.stop()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def play(scene: Callable[[], Awaitable[None]], seed: int) -> None:
    """Run a scene in virtual time, the same at each run."""
    random.seed(seed)

    async def seeded() -> None:
        await scene()

    virtual.run(seeded())


def against(
    limit: Limit,
    *,
    workers: int,
    seed: int,
    seconds: int = 300,
    retry_after: bool = False,
    changes: Mapping[int, float] | None = None,
) -> Service:
    """One endless task against a service whose limit is hidden; `changes`: second -> scale of the limit."""
    service = Service(limit, seed, retry_after=retry_after)

    async def scene() -> None:
        daemon = Daemon(service, workers, OPEN)
        daemon.add(Task("endless", ENDLESS))
        async with running(daemon):
            for second in range(seconds):
                limit.scale = (changes or {}).get(second, limit.scale)
                await asyncio.sleep(1.0)

    play(scene, seed)
    return service
