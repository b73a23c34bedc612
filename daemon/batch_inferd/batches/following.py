"""A batch at the provider: looked at until it has ended, cancelled when that is wanted."""

from __future__ import annotations

import msgspec

from batch_inferd.backends.batch.provider import (
    BatchState,
    BatchStatus,
    NotFound,
    Refused,
    Unsettled,
)
from batch_inferd.batches import collecting
from batch_inferd.batches import submission as states
from batch_inferd.batches.step import Step
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.services.batch_settings import window_hours

_RESULTS_LATE = 5  # looks at a completed batch whose result files are not named yet
_CANCEL_WAITS_S = (1.0, 2.0, 4.0, 8.0, 16.0)  # after cancels that were not answered: a batch costs money
_WINDOW_GRACE_S = 3600.0  # beyond its end, for a batch in a state that nobody knows
_GONE_TRIES = 30  # looks at a batch that the service says it does not have


class Following(Step):
    """The steps of a submission that is live."""

    async def follow(self) -> None:
        """Look at the batch until it has ended, or is given up."""
        one, run = self.one, self.run
        run.capacity.adopt(self.key, one.detail.tokens)
        gone = late = 0
        while True:
            await self._cancel_if_wanted()
            lost = self._is_lost_to_cancel()
            if lost:
                run.poller.soon(self.key)
            try:
                status = await self._look(patient=lost)
            except NotFound as error:
                gone += 1
                run.task.log(30, f"batch {one.id}: the provider does not have {one.upstream_id}: {error}")
                if gone < _GONE_TRIES:
                    continue
                await self._lost()
                return
            if status is None:
                continue
            failpoint("batch.polled")
            if status.unknown and self._is_window_over(status):
                status = msgspec.structs.replace(status, state=BatchState.EXPIRED)
            gone = 0
            before = one.detail.raw_state
            changed = one.take(status)
            if one.detail.ran:
                run.capacity.accepted()
            if status.state.is_final:
                if late < _RESULTS_LATE and _results_are_late(status):
                    late += 1
                    continue
                break
            if changed and before != one.detail.raw_state:
                run.task.log(20, f"batch {one.id} ({one.upstream_id}): {before} -> {one.detail.raw_state}")
                await run.save(one)
                failpoint("batch.state_committed")
            run.tell()
            if lost:  # seen after its time: what it brought by then is not thrown away
                await self._abandon()
                return
        run.task.log(
            20,
            f"batch {one.id} ({one.upstream_id}) has ended: {status.raw_state}, "
            f"{status.completed} of {status.total} done, {status.failed} failed",
        )
        one.state = states.ENDED
        one.detail.ended = one.detail.ended or self.clock.now()
        await run.save(one)
        failpoint("batch.state_committed")
        run.poller.forget(self.key)
        run.capacity.release(self.key)

    async def _look(self, *, patient: bool) -> BatchStatus | None:
        """The next look at the batch; None when something else wants attention first, unless `patient`."""
        one, run = self.one, self.run
        provider = await run.provider()
        since = one.detail.submitted or one.created
        look = run.poller.look(self.key, one.upstream_id or "", since, run.api, provider)
        due = run.poller.due_in(self.key)
        one.next_look = None if due is None else self.clock.now() + due
        return await run.within(look, None if patient else self.next_deadline())

    async def _cancel_if_wanted(self) -> None:
        one, run = self.one, self.run
        if one.detail.cancel:
            return
        why = states.BY_TASK if run.cancelling else states.BY_DEADLINE if self.is_overdue() else ""
        if not why:
            return
        provider = await run.provider()
        if why == states.BY_DEADLINE:
            run.task.log(30, f"batch {one.id} is past its deadline: it is cancelled, and goes on online")
        for wait in _CANCEL_WAITS_S:
            try:
                await run.reach.call(lambda: provider.cancel(one.upstream_id or ""))
            except Unsettled as error:
                run.task.log(30, f"batch {one.id}: the cancel was not answered: {error}")
                await self.clock.sleep(wait)
            except (Refused, NotFound) as error:
                run.task.log(30, f"batch {one.id}: the cancel was not accepted: {error}")
                break
            else:
                break
        failpoint("batch.cancel_sent")
        one.detail.cancel = why
        one.detail.cancelled_at = self.clock.now()
        await run.save(one)
        failpoint("batch.cancel_committed")
        run.poller.soon(self.key)

    def _is_lost_to_cancel(self) -> bool:
        """Whether a batch that we cancelled for its deadline does not end in time."""
        one, run = self.one, self.run
        return (
            one.detail.cancel == states.BY_DEADLINE
            and one.detail.cancelled_at is not None
            and self.clock.now() >= one.detail.cancelled_at + run.cancel_s
        )

    def _is_window_over(self, status: BatchStatus) -> bool:
        """Whether a batch in a state that nobody knows cannot run any more."""
        window = window_hours(self.run.window or "24h") * 3600.0
        ends = status.expires or (self.one.detail.submitted or self.one.created) + window
        return self.clock.now() >= ends + _WINDOW_GRACE_S

    async def _abandon(self) -> None:
        run = self.run
        run.task.log(30, f"batch {self.one.id} does not end: its records go on without it")
        run.poller.forget(self.key)
        run.capacity.release(self.key)
        self.one.detail.end_state = BatchState.CANCELLED.value
        self.one.detail.unsure = True
        await run.whole(collecting.collect(run, self.one, []))

    async def _lost(self) -> None:
        """The provider has forgotten the batch: as one that was cancelled upstream."""
        run, one = self.run, self.one
        run.poller.forget(self.key)
        run.capacity.release(self.key)
        one.detail.end_state = BatchState.CANCELLED.value
        one.detail.message = "the provider does not have this batch any more"
        one.detail.unsure = True
        one.state = states.ENDED
        await run.save(one)


def _results_are_late(status: BatchStatus) -> bool:
    """Whether a batch says that it has results and does not name their files yet."""
    kinds = {ref.kind for ref in status.results}
    return (bool(status.completed) and "output" not in kinds) or (
        bool(status.failed) and status.state is BatchState.COMPLETED and not kinds
    )
