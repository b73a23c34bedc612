"""The life of one submission: created, followed, collected. Each step may be begun again after a crash."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_inferd.backends.batch.provider import Blocked
from batch_inferd.batches import submission as states
from batch_inferd.batches.creating import Creation
from batch_inferd.batches.ending import Ending
from batch_inferd.batches.following import Following
from batch_inferd.batches.step import Halted
from batch_inferd.scheduling.jobs import JobLost

if TYPE_CHECKING:
    from batch_inferd.batches.run import BatchRun
    from batch_inferd.batches.submission import Submission


class Life:
    """Takes one submission to its end. `run` returns when it is closed, or when only a person can help."""

    def __init__(self, run: BatchRun, submission: Submission) -> None:
        self._run = run
        self._one = submission
        self._creation = Creation(run, submission)
        self._following = Following(run, submission)
        self._ending = Ending(run, submission)

    async def run(self) -> None:
        """Raises OSError, sqlite3.Error, FolderGone; a refusal of the account pauses the task."""
        one = self._one
        while not one.closed:
            try:
                await self._step()
            except Blocked as error:
                self._run.blocked(error.cls, error.text, one)
                return
            except Halted:
                return
            except JobLost:
                if self._run.stopping:
                    return

    async def _step(self) -> None:
        one = self._one
        if one.state in states.UNCREATED and self._run.cancelling:
            await self._creation.drop()
        elif one.state == states.PACKED:
            await self._creation.upload()
        elif one.state == states.UPLOADED:
            await self._creation.create()
        elif one.state in states.MAYBE_CREATED:
            await self._creation.settle()
        elif one.state == states.LIVE:
            await self._following.follow()
        else:
            await self._ending.collect()

    async def until_ended(self) -> None:
        """After a cancel: only learn how the batch ends. Returns when it has, or cannot be asked."""
        one = self._one
        while not one.closed and one.state != states.ENDED:
            try:
                await self._step()
            except (Blocked, Halted):
                return
