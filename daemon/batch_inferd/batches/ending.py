"""A batch that has ended: its results are brought home, or it was refused, and what follows from that."""

from __future__ import annotations

from batch_infer.protocol.text import Text
from batch_inferd.backends.batch.provider import BatchState, NotFound, Refused, Unsettled
from batch_inferd.batches import collecting, refusal
from batch_inferd.batches import submission as states
from batch_inferd.batches.refusal import Refusal
from batch_inferd.batches.step import Step
from batch_inferd.batches.submission import new_token

_FETCHES = 5  # of files that have fewer results than the service says; then it is believed that they are all


class Ending(Step):
    """The last step."""

    async def collect(self) -> None:
        """Do what the batch's end asks for; after it the submission is closed, or waits for room."""
        one, run = self.one, self.run
        one.step = "collecting"
        if one.detail.end_state == BatchState.FAILED.value and not one.problems and one.upstream_id:
            await self._ask_for_problems()
        verdict, cls = refusal.judge(one, run.plan)
        if verdict is Refusal.FULL:
            await self._full_after_all()
        elif verdict is Refusal.BLOCKED:
            message = one.detail.message
            await run.close(one, states.REFUSED, [])
            if (one.detail.asked or 0.0) < run.began:
                return  # it was refused before the task went on: whether that was mended shows the next one
            text = Text("the service does not have this model: {message}", {"message": message})
            if cls == "credit":
                text = Text("no credit, or the quota is spent: {message}", {"message": message})
            run.blocked(cls, text, one)
        elif verdict is Refusal.HALVE:
            await self._halve()
        else:
            await self._bring_home(verdict)
        one.step = ""

    async def _bring_home(self, verdict: Refusal) -> None:
        """Fetch and journal the results; files with fewer than the service counted are fetched again.

        Something on the way may answer in the service's place, and it may not have written all yet.
        """
        one, run = self.one, self.run
        counted = (one.detail.completed or 0) + (
            (one.detail.failed or 0) if one.detail.end_state == BatchState.COMPLETED.value else 0
        )
        for tries in range(1, _FETCHES + 1):
            least = min(counted, one.requests) if one.detail.outputs and tries < _FETCHES else 0
            files = await collecting.fetch(run, one)
            short = await run.whole(collecting.collect(run, one, files, verdict, least=least))
            if short is None:
                return
            text = Text("{found} of {input} results are in its files", {"found": short, "input": least})
            await self.rest_after("fetching its results", Unsettled(text), tries)

    async def _ask_for_problems(self) -> None:
        provider = await self.run.provider()
        failures = 0
        while True:
            try:
                status = await self.run.reach.call(lambda: provider.retrieve(self.one.upstream_id or ""))
            except Unsettled as error:
                failures += 1
                await self.rest_after("asking why it failed", error, failures)
            except (NotFound, Refused):
                return
            else:
                self.one.problems = status.problems
                self.one.wait = None
                return

    async def _full_after_all(self) -> None:
        """It was created, and failed for want of room: the same file again, under another token."""
        one, run = self.one, self.run
        said = one.detail.message
        if one.upstream_id:
            one.detail.former.append(one.upstream_id)
        one.upstream_id = None
        one.token = new_token()
        one.detail.end_state, one.detail.raw_state, one.detail.outputs = "", None, []
        one.detail.submitted = one.detail.ended = None
        one.detail.ran = False
        one.problems = []
        if one.input_ref is None and not run.inline:
            await run.close(one, states.REFUSED, [])
            return
        await self.queue_is_full(said)

    async def _halve(self) -> None:
        """No line was named: the lines are sent again in two halves, until the bad one stands alone."""
        one, run = self.one, self.run
        family = one.detail.family or one.id
        if one.requests <= 1 or await run.store.refusals(family) >= refusal.HALVINGS_MAX:
            run.task.log(30, f"batch {one.id} was refused: {one.detail.message}")
            await run.whole(collecting.collect(run, one, [], end_all=True))
            return
        run.task.log(30, f"batch {one.id} was refused without naming a line; its halves are sent alone")
        one.detail.family = family
        run.split(one, family)
        await run.close(one, states.REFUSED, [])
