"""Our files at the provider that serve no batch any more: deleted one by one, and not forgotten by a crash.

A closed submission says in task.db that its upload is still there, until it was deleted. A provider's
room for files is limited, and they hold the user's data.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import TYPE_CHECKING

from batch_inferd.backends.batch.provider import ProviderError

if TYPE_CHECKING:
    from batch_inferd.batches.run import BatchRun

_TRIES = 3
_AGAIN_S = 2.0


class Uploads:
    """A task's. One deletion at a time."""

    def __init__(self, run: BatchRun) -> None:
        self._run = run
        self._left: deque[tuple[int, str]] = deque()
        self._job: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Begin with what task.db says is still there. Raises sqlite3.Error."""
        self._left = deque(await self._run.store.uploads_left())
        self._go_on()

    def add(self, submission: int, ref: str) -> None:
        """A submission was closed that had an upload."""
        self._left.append((submission, ref))
        self._go_on()

    async def finish(self, seconds: float) -> None:
        """Give the deletions a moment; what stays is told in the log."""
        if self._job is not None and not self._job.done():
            await self._run.within(asyncio.wait([self._job]), seconds)
        if self._left:
            names = ", ".join(ref for _, ref in list(self._left)[:20])
            self._run.task.log(
                logging.WARNING, f"{len(self._left)} uploaded files stay at the provider: {names}"
            )

    async def stop(self) -> None:
        """Delete no more for now."""
        job, self._job = self._job, None
        if job is not None:
            job.cancel()
            await asyncio.wait([job])

    def _go_on(self) -> None:
        if self._left and not self._run.stopping and (self._job is None or self._job.done()):
            self._job = asyncio.create_task(self._delete(), name=f"uploads-{self._run.task.id}")

    async def _delete(self) -> None:
        with contextlib.suppress(Exception):  # it is tried again with the next start, and `finish` tells
            while self._left:
                submission, ref = self._left[0]
                for number in range(_TRIES):
                    provider = await self._run.provider()
                    try:
                        await self._run.reach.call(lambda: provider.delete_upload(ref))  # noqa: B023
                    except ProviderError:
                        await self._run.clock.sleep(_AGAIN_S * 2**number)
                    else:
                        await self._run.store.upload_deleted(submission)
                        break
                else:
                    return
                self._left.popleft()
