"""Work that nobody waits for at once: what fails in it is logged."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

_log = logging.getLogger(__name__)


class Background:
    """The jobs of one owner, whose name stands in the log."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._jobs: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do it beside everything else."""
        job = asyncio.create_task(work)
        self._jobs.add(job)
        job.add_done_callback(self._finished)

    async def wait(self) -> None:
        """Return when all that was started has ended."""
        if self._jobs:
            await asyncio.wait(set(self._jobs))

    def _finished(self, job: asyncio.Task[Any]) -> None:
        self._jobs.discard(job)
        if not job.cancelled() and job.exception() is not None:
            _log.error("a background job of the %s failed", self._owner, exc_info=job.exception())
