"""Images of records that are about to be sent: loaded in a few threads, within the bytes in flight."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_inferd.backends.body import Request
    from batch_inferd.worker.answers import HeldAnswer
    from batch_inferd.worker.queues import TaskQueue

_THREADS = 4


class Images:
    """Puts images into requests.

    Records that wait for their images take calls' slots: `TaskQueue.filling` bounds how many of a task do,
    and `wake` is called when there may be another one.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._threads: ThreadPoolExecutor | None = None

    async def fill(self, request: Request, queue: TaskQueue, held: HeldAnswer) -> Request:
        """The request with its images in it, for which `held` has room then. Raises ImageError."""
        from batch_inferd.images import embed  # noqa: PLC0415  most workers do without

        plan = queue.prepared.plan
        if plan.images is None or not embed.has_references(request.body, fetch_urls=plan.images.fetch_urls):
            return request
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="images")
        loop = asyncio.get_running_loop()
        body, limit = request.body, plan.max_line_bytes
        queue.filling += 1
        try:
            most = await loop.run_in_executor(self._threads, embed.measure, body, plan.images)
            taken = max(0, min(most, limit - len(body)))
            await held.take_more(taken)
            whole = await loop.run_in_executor(self._threads, embed.embed, body, plan.images, limit)
            more = len(whole) - len(body) - taken
            if more > 0:
                await held.take_more(more)
            else:
                held.give_back(-more)
        finally:
            queue.filling -= 1
            self._wake()
        return msgspec.structs.replace(request, body=whole)

    def close(self) -> None:
        """Load nothing any more; what is being read is not waited for."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
