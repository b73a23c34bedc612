"""Requests that take long: the work runs in a thread, and the client hears how far it is.

Who hangs up does not want it any more: the work is told to stop.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from batch_infer.protocol import rpc
from batch_infer.protocol.errors import DaemonUnavailable
from batch_infer.protocol.text import Text
from batch_inferd.tasks.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from batch_inferd.app import App
    from batch_inferd.server.peer import Peer

T = TypeVar("T")


class Told(Protocol):
    """What the client hears: work that is done and the whole of it, in any unit; None: nobody knows."""

    @property
    def done(self) -> int: ...  # noqa: D102

    @property
    def total(self) -> int | None: ...  # noqa: D102


_EACH_S = 0.25


@dataclass
class Progress:
    """How far the work is; `total` is None while nobody knows. Written by the thread, read by the loop."""

    done: int = 0
    total: int | None = None


async def run_long(app: App, peer: Peer, work: Callable[[Progress, threading.Event], T]) -> T:
    """Run `work(progress, stop)` in a thread; its result.

    `work` looks at `stop` often, and raises whatever it likes when it is set. Raises what `work` raises,
    and DaemonUnavailable when the daemon ends meanwhile.
    """
    progress, stop = Progress(), threading.Event()
    return await accompany(app, peer, in_thread(lambda: work(progress, stop), stop), progress, stop)


async def accompany(
    app: App, peer: Peer, work: Coroutine[Any, Any, T], progress: Told, stop: threading.Event
) -> T:
    """As `run_long` for work that awaits: it has `stop` itself, and says in `progress` how far it is."""
    peer.on_close(stop.set)
    job = asyncio.ensure_future(work)
    try:
        while not job.done():
            await asyncio.wait([job], timeout=_EACH_S)
            if app.stopping or app.draining:
                stop.set()
            told = {"done": progress.done, "total": progress.total}
            peer.push(rpc.WORKING, rpc.notification(rpc.WORKING, told))
    except asyncio.CancelledError:
        job.cancel()
        await asyncio.wait([job])
        raise
    if stop.is_set() and job.exception() is not None:
        raise DaemonUnavailable(
            Text("the daemon is ending"), hints=(Text("give the command again: it starts a new one"),)
        ) from job.exception()
    return job.result()
