"""Blocking work in a thread that is never left behind: whoever is cancelled waits until it is out."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

T = TypeVar("T")


async def in_thread(work: Callable[[], T], stop: threading.Event | None = None) -> T:
    """Run `work()` in a thread. When cancelled, set `stop`, wait for the thread's end, then go.

    So a task's folder and descriptors are never closed, or used again, under a thread.
    """
    job = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        if stop is not None:
            stop.set()
        with contextlib.suppress(Exception):  # what came of it interests nobody any more
            await job
        raise
