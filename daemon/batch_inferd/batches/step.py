"""What all steps of a submission's life share: waiting after a failure, deadlines, refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_infer.protocol.text import Text
from batch_inferd.backends.batch.provider import BatchState, ProviderError, Refused
from batch_inferd.backends.batch.verdicts import NO_BATCH_API
from batch_inferd.batches import submission as states
from batch_inferd.batches.submission import Wait
from batch_inferd.tasks.states import Reason

if TYPE_CHECKING:
    from batch_inferd.batches.run import BatchRun
    from batch_inferd.batches.submission import Submission

_RETRY_FIRST_S, _RETRY_MAX_S = 1.0, 300.0
_ALONE_MAX = 6  # refusals, about an hour, of a batch that is alone in the account's queue


class Halted(Exception):  # noqa: N818  said of the life
    """The task was paused: nothing more is done here until it goes on."""


class Step:
    """One submission in the hands of its task's engine."""

    def __init__(self, run: BatchRun, submission: Submission) -> None:
        self.run = run
        self.clock = run.clock
        self.one = submission
        self.key = run.key(submission)

    async def rest_after(self, what: str, error: Exception, failures: int) -> None:
        """Wait after a failed call, longer each time; from the second failure on it is shown."""
        wait = min(_RETRY_FIRST_S * 2 ** min(failures - 1, 32), _RETRY_MAX_S)
        detail = error.text if isinstance(error, ProviderError) else Text("{error}", {"error": str(error)})
        self.run.task.log(30, f"batch {self.one.id}: {what}: {error}; again in {wait:.0f} s")
        if failures > 1:
            text = Text("the service does not answer as it should: {detail}", {"detail": detail})
            self.one.wait = Wait("service", text, self.clock.now(), self.clock.now() + wait)
            self.run.tell()
        await self.clock.sleep(wait)

    async def queue_is_full(self, said: str, retry_after: float | None = None) -> None:
        """Give the place in the queue back; the next try waits for minutes.

        What finds no room though nothing else of the account is there may never find it: it is halved.
        """
        one, run = self.one, self.run
        wait = run.capacity.refused(self.key, said, retry_after)
        one.detail.alone = 0 if run.capacity.batches else one.detail.alone + 1
        if one.detail.alone > (0 if one.detail.depth else _ALONE_MAX) and one.requests > 1:
            run.task.log(30, f"batch {one.id} finds no room in an empty queue ({said}): its halves are sent")
            run.most_tokens = max(1, one.detail.tokens // 2)
            run.split(one, one.detail.family)
            await run.close(one, states.REFUSED, [])
            return
        run.task.log(30, f"batch {one.id}: the account's queue is full ({said}); again in {wait:.0f} s")
        one.state = states.UPLOADED
        await run.save(one)

    async def refused_call(self, error: Refused) -> None:
        """The service refuses the file, or the batch: as a failed validation, with what it says."""
        one, run = self.one, self.run
        if error.code == NO_BATCH_API:
            text = Text(
                "no batches can be made here: {detail}",
                {"detail": error.text},
            )
            await run.task.pause(Reason("batch_api", text))
            raise Halted from error
        one.detail.end_state = BatchState.FAILED.value
        one.detail.message = str(error)
        one.problems = list(error.problems)
        one.state = states.ENDED
        await run.save(one)

    def next_deadline(self) -> float | None:
        """Seconds until the deadline of the batch, or of its cancel."""
        one, run = self.one, self.run
        now = self.clock.now()
        if one.detail.cancel == states.BY_DEADLINE and one.detail.cancelled_at is not None:
            return max(0.05, one.detail.cancelled_at + run.cancel_s - now)
        if run.deadline_s is None or one.detail.cancel:
            return None
        return max(0.05, one.created + run.deadline_s - now)

    def is_overdue(self) -> bool:
        """Whether its records should go on online."""
        run = self.run
        return run.deadline_s is not None and self.clock.now() >= self.one.created + run.deadline_s
