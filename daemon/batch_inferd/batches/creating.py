"""From a packed file to a batch at the provider: upload, a place in the queue, intent, create, settle.

What was not answered may have happened and cost money: a create is never repeated before the provider's
list has been watched for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING

from batch_infer.protocol.text import Text
from batch_inferd.backends.batch.errors import IMAGE_CHANGED
from batch_inferd.backends.batch.provider import (
    BatchOrder,
    BatchState,
    BatchStatus,
    Blocked,
    Capacity,
    NotFound,
    NotSent,
    Refused,
    Throttled,
    Unsettled,
)
from batch_inferd.backends.batch.verdicts import NO_BATCH_API
from batch_inferd.batches import collecting
from batch_inferd.batches import submission as states
from batch_inferd.batches.step import Halted, Step
from batch_inferd.batches.submission import Wait
from batch_inferd.scheduling.jobs import JobLost
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.tasks.states import Reason

if TYPE_CHECKING:
    from batch_inferd.backends.batch.provider import BatchProvider
    from batch_inferd.batches.run import BatchRun
    from batch_inferd.batches.submission import Submission

_CREATE_S = 120.0  # for the answer to a create; then it is unsettled
_SETTLE_FIRST_S, _SETTLE_MAX_S = 1.0, 60.0
_CLOCKS_S = 600.0  # that the provider's clock may differ from ours
_UPLOADS_MAX = 3  # of one file that the service says it does not have
_CHANGES_MAX = 3  # of a record's images between packing and sending


class Creation(Step):
    """The steps of a submission that is not, or perhaps not, at the provider yet."""

    def __init__(self, run: BatchRun, submission: Submission) -> None:
        super().__init__(run, submission)
        self._uploads = 0

    async def upload(self) -> None:
        """Send the packed file; one that may have arrived is looked for first."""
        one, run = self.one, self.run
        one.step = "uploading"
        reuse, failures = one.recovered, 0  # before a crash it may have arrived
        while True:
            if run.cancelling:
                return
            if self.is_overdue():
                await self._give_up_waiting()
                return
            params = {
                "file": one.detail.file,
                "filename": f"{one.token}.jsonl",
                "size": one.detail.bytes,
                "holed": one.detail.holed,
                "reuse": reuse,
            }
            try:
                result = await run.reach.call(lambda: run.job("upload", params))  # noqa: B023  awaited at once
            except (JobLost, Unsettled, NotFound) as error:
                reuse, failures = True, failures + 1  # it may have arrived: then it is used
                await self.rest_after("upload", error, failures)
            except Refused as error:
                await (self._pack_again if error.code == IMAGE_CHANGED else self.refused_call)(error)
                return
            else:
                break
        one.step = ""
        one.wait = None
        one.input_ref = result["input_ref"]
        one.state = states.UPLOADED
        await run.save(one)
        failpoint("batch.file_committed")

    async def _pack_again(self, error: Refused) -> None:
        """An image is not the one of the packing: the lines are packed anew, and what is wrong told there.

        A record whose image changes time and again ends as an error.
        """
        one, run = self.one, self.run
        numbers = (n for _, ranges in sorted(one.lines.items()) for a, b in ranges for n in range(a, b + 1))
        number = next(itertools.islice(numbers, (error.problems[0].line or 1) - 1, None), 0)
        run.image_changes[number] += 1
        if run.image_changes[number] > _CHANGES_MAX:
            await self.refused_call(error)
            return
        run.task.log(30, f"batch {one.id}: line {number}: {error}; its records are packed again")
        await run.close(one, states.REFUSED, [])

    async def create(self) -> None:
        """Wait for a place in the account's queue, and create the batch."""
        if self.run.task.context.dispatcher.stopping:
            raise Halted  # the daemon is ending: nothing new begins
        if await self._afford() and await self._place():
            # A stop waits for the answer for a moment: it saves the watching of the provider's list.
            await self.run.whole(self._send_create(), brief=True)

    async def _send_create(self) -> None:
        one, run = self.one, self.run
        provider = await run.provider()
        order = BatchOrder(
            token=one.token,
            input_ref=one.input_ref,
            requests_path=str(run.task.directory.path / one.detail.file) if one.input_ref is None else None,
            url=one.detail.url,
            model=one.detail.model,
            window=run.window,
            title=run.title,
        )

        sent = False

        async def create() -> BatchStatus:
            nonlocal sent
            sent = True
            try:
                async with asyncio.timeout(_CREATE_S):
                    return await provider.create(order)
            except TimeoutError as error:
                raise Unsettled(Text("no answer in time")) from error
            except (NotSent, Throttled):
                sent = False
                raise

        one.state = states.CREATING
        one.detail.asked = self.clock.now()
        await run.save(one)
        failpoint("batch.intent_committed")
        run.capacity.created()
        try:
            status = await run.reach.call(create)
        except asyncio.CancelledError:
            if not sent:  # it only waited for the network: nothing is unsettled
                one.state = states.UPLOADED
                await run.save(one)
            raise
        except Unsettled as error:
            one.state = states.UNSETTLED
            run.task.log(30, f"batch {one.id}: the create was not answered ({error}); the provider is asked")
            await run.save(one)
        except Capacity as error:
            await self.queue_is_full(str(error), error.retry_after)
        except NotFound:
            await self._upload_again(Refused(Text("the service does not have the uploaded file")))
        except Refused as error:
            if one.input_ref is not None and one.input_ref in str(error) and error.status in (400, 404):
                await self._upload_again(error)
            else:
                run.capacity.release(self.key)
                await self.refused_call(error)
        except Blocked:
            one.state = states.UPLOADED
            run.capacity.release(self.key)
            await run.save(one)
            raise
        else:
            await self._created(status)

    async def _afford(self) -> bool:
        """Hold what the batch may cost in the task's budget; False when it is not created for now."""
        one, run = self.one, self.run
        budget = run.task.budget
        since = self.clock.now()
        if budget.config is not None and one.detail.most is None:
            # It was packed before there was a budget: its lines are packed anew, and counted.
            await run.close(one, states.REFUSED, [])
            return False
        while True:
            changed = budget.changed()
            if budget.hold(one):
                changed.close()
                one.wait = None
                return True
            needed = budget.short_of(one)
            if run.cancelling:
                changed.close()
                return False
            if needed is not None:
                changed.close()
                budget.rest(needed)
                raise Halted
            if self.is_overdue():
                changed.close()
                await self._give_up_waiting()
                return False
            text = Text("waiting for what is under way to end: it may leave room in the budget")
            one.wait = Wait("budget", text, since)
            run.tell()
            await run.within(changed, self.next_deadline())

    async def _place(self) -> bool:
        """Wait for a place in the account's queue; False when the task was cancelled meanwhile."""
        one, run = self.one, self.run
        since = self.clock.now()
        if self.is_overdue():
            await self._give_up_waiting()
            return False
        while (full := run.capacity.reserve(self.key, one.detail.tokens, run.api)) is not None:
            if run.cancelling:
                return False
            if self.is_overdue():
                await self._give_up_waiting()
                return False
            until = None
            if full.until is not None:
                until = self.clock.now() + full.until - self.clock.monotonic()
            text = Text("waiting for room in the provider's queue: {detail}", {"detail": full.text})
            one.wait = Wait("capacity", text, since, until)
            run.tell()
            await run.within(run.capacity.changed(full.until), self.next_deadline())
        one.wait = None
        return True

    async def _created(self, status: BatchStatus) -> None:
        one, run = self.one, self.run
        one.upstream_id = status.id
        one.state = states.LIVE
        one.detail.submitted = status.created if status.created is not None else self.clock.now()
        one.take(status)
        await run.save(one)
        failpoint("batch.id_committed")
        one.wait = None
        run.paid()
        run.task.log(20, f"batch {one.id} is {status.id}: {one.detail.requests} records, {status.raw_state}")
        with contextlib.suppress(OSError):
            await asyncio.to_thread(run.task.directory.unlink, one.detail.file)

    async def _upload_again(self, error: Refused) -> None:
        one, run = self.one, self.run
        run.capacity.release(self.key)
        self._uploads += 1
        there = await asyncio.to_thread((run.task.directory.path / one.detail.file).exists)
        if not there:  # it was at the service once: its lines are packed anew
            await run.close(one, states.REFUSED, [])
            return
        if self._uploads > _UPLOADS_MAX:
            await self.refused_call(error)
            return
        one.state, one.input_ref = states.PACKED, None
        await run.save(one)

    async def settle(self) -> None:
        """Look for a batch that may have been created, for `settle_s`; then create it again."""
        one, run = self.one, self.run
        api = run.api
        if not api.lists:
            await self._ask_a_person()
            return
        provider = await run.provider()
        run.capacity.adopt(self.key, one.detail.tokens)
        began = self.clock.monotonic()
        since = self.clock.now()
        wait = min(_SETTLE_FIRST_S, max(0.05, api.settle_s / 10))
        failures = 0
        while True:
            last = self.clock.monotonic() - began >= api.settle_s
            one.wait = Wait(
                "unsettled",
                Text("it is not known whether the provider has it; its list is watched"),
                since,
                self.clock.now() + max(0.0, api.settle_s - (self.clock.monotonic() - began)),
            )
            run.tell()
            try:
                found = await run.reach.call(lambda: self._find(provider))
            except (Unsettled, NotFound, Refused) as error:
                if isinstance(error, Refused) and error.code == NO_BATCH_API:
                    await self._ask_a_person()
                    return
                failures += 1
                await self.rest_after("looking for it", error, failures)
                continue
            if found is not None:
                run.task.log(20, f"batch {one.id} was created after all: {found.id}")
                await self._created(found)
                return
            if last:
                break
            await self.clock.sleep(min(wait, max(0.05, api.settle_s - (self.clock.monotonic() - began))))
            wait = min(wait * 2, _SETTLE_MAX_S)
        run.task.log(30, f"batch {one.id} was not created: the provider's list does not have it")
        run.capacity.release(self.key)
        one.wait = None
        one.state = states.UPLOADED if one.input_ref or run.inline else states.PACKED
        await run.save(one)

    async def _find(self, provider: BatchProvider) -> BatchStatus | None:
        one = self.one
        former = set(one.detail.former)
        found: list[BatchStatus] = []
        asked = one.detail.asked or one.created
        since = 0.0 if asked > self.clock.now() else asked - _CLOCKS_S  # 0: our clock was set back
        async for status in provider.recent(since):
            if status.id in former:
                continue
            if status.token == one.token or (
                status.token is None and one.input_ref is not None and status.input_ref == one.input_ref
            ):
                found.append(status)
        return found[-1] if found else None  # the earliest, should there be more than one

    async def _ask_a_person(self) -> None:
        one, run = self.one, self.run
        if one.id in run.allowed:
            run.allowed.discard(one.id)
            one.state = states.UPLOADED
            await run.save(one)
            return
        text = Text(
            "it is not known whether batch {n} was created, and this provider cannot be asked; look at its "
            "console: batch_infer -resume {id} creates it again, batch_infer -cancel {id} does not",
            {"n": one.id, "id": run.task.id},
        )
        await run.task.pause(Reason("unsettled", text))
        raise Halted

    async def _give_up_waiting(self) -> None:
        """Past its deadline before it was created: its records go on online."""
        one, run = self.one, self.run
        run.task.log(30, f"batch {one.id} was not created before its deadline: its records go on online")
        one.detail.cancel = states.BY_DEADLINE
        one.detail.end_state = BatchState.CANCELLED.value
        await run.whole(collecting.collect(run, one, []))

    async def drop(self) -> None:
        """The task was cancelled before the batch was created."""
        one, run = self.one, self.run
        run.capacity.release(self.key)
        await run.close(one, states.DROPPED, [])
