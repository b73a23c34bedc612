"""Merging while the task runs: chunks that are done go into the stage, so that little is left for the end.

It is the merge of the task's end, begun sooner: chunks come as they are done, in order, and the last ones
when the driver says that the task is at its end. Until then nothing of it counts. A pause, a cancel or any
trouble gives it up, and its stage; then all is merged at the end.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from itertools import takewhile
from typing import TYPE_CHECKING

from batch_inferd.merge.merge import End, MergeResult, MergeStopped, merge_task
from batch_inferd.tasks import merging
from batch_inferd.tasks.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batch_inferd.journal.names import Listing
    from batch_inferd.merge.chunk import MergeChunk
    from batch_inferd.money.prices import Price
    from batch_inferd.seams.files import Directory
    from batch_inferd.tasks.task import Task

_FIRST = 64  # chunks that are done before it begins
_WAVE = 16  # and before it goes on
_MOST = 2  # tasks of a daemon that merge while they run: each takes some threads


class EarlyMerge:
    """The merge of one task that runs. Belongs to the task's driver; the merge itself is in threads."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._run: _Run | None = None
        self._in_vain = False  # there was trouble: not again

    def look(self) -> None:
        """Some chunks may be done: begin, or go on."""
        task, run = self._task, self._run
        done = task.progress.chunks["done"]
        if run is None and done >= _FIRST and not self._in_vain and len(task.context.merging) < _MOST:
            run = self._run = _Run(task)
        if run is not None:
            run.go_on(done)

    async def finish(
        self, merged: Directory, generation: int, ended: float, progress: Callable[[int], None]
    ) -> MergeResult | None:
        """All chunks are done: merge the rest; see `merging.merge`. None where all has to be merged anew."""
        run = self._run
        if run is None:
            return None
        end = await merging.end_of(self._task, ended)
        result = None
        if run.fits(merged, generation, end.header.price):
            try:
                result = await run.finish(end, progress)
            except Exception as error:  # noqa: BLE001  whatever it was: merging anew meets it again, or does not
                self._task.log(logging.DEBUG, f"the early merge came to nothing: {error!r}")
        await self.give_up()
        if result is not None and not result.identity:
            self._task.log(logging.WARNING, f"the early merge does not add up: {result.problems[:3]}")
            return None
        return result

    async def give_up(self) -> None:
        """End it, with its stage; the threads are out when this returns."""
        run = self._run
        if run is not None:
            await run.stop()
            self._run = None
            # Its stage takes room, too: on a disk that is full it must not come again.
            self._in_vain |= run.failed or self._task.rests_for("disk_full")


class _Run:
    """One merge, from its beginning to its end."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._generation = int(task.facts.get("generation", 0)) + 1
        self._round = task.round
        self._price: Price | None = None
        self._place: tuple[int, int] | None = None  # the folder of the outputs
        self._more = threading.Event()  # chunks, or the end
        self._stop = _Stop(self._more)
        self._end: End | None = None
        self._progress: Callable[[int], None] | None = None
        self._known = 0  # chunks that were done when it was told last
        self._loop = asyncio.get_running_loop()
        task.context.merging.add(task.uuid)
        self._job = asyncio.create_task(self._merge(), name=f"merge-{task.id}")

    @property
    def failed(self) -> bool:
        """Whether it ended by itself, before it was told to."""
        return not self._job.cancelled() and not isinstance(self._job.exception(), MergeStopped | None)

    def go_on(self, done: int) -> None:
        """So many chunks are done."""
        if done - self._known >= _WAVE:
            self._known = done
            self._more.set()

    def fits(self, merged: Directory, generation: int, price: Price | None) -> bool:
        """Whether it is what a merge into `merged` that begins now would be."""
        task = self._task
        return self._place == merged.identity and (
            generation,
            task.round,
            price,
            merging.is_cancelled(task),
        ) == (
            self._generation,
            self._round,
            self._price,
            False,
        )

    async def finish(self, end: End, progress: Callable[[int], None]) -> MergeResult:
        """Merge the rest. Raises whatever ended it."""
        self._progress = progress
        self._end = end
        self._more.set()
        return await asyncio.shield(self._job)

    async def stop(self) -> None:
        """End it."""
        if not self._stop.is_set():
            self._stop.set()
            self._job.cancel()  # once: it waits for its thread then
        await asyncio.wait([self._job])

    async def _merge(self) -> MergeResult:
        task = self._task
        try:
            await task.money.settled()
            self._price = task.money.price
            merged = await asyncio.to_thread(merging.open_merged, task)
            self._place = merged.identity
            try:
                return await in_thread(
                    lambda: merge_task(
                        task.directory,
                        merged,
                        self._rows,
                        generation=self._generation,
                        round=self._round,
                        end=self._the_end,
                        price=self._price,
                        progress=self._count,
                        stop=self._stop,
                    ),
                    self._stop,
                )
            finally:
                merged.close()
        finally:
            task.context.merging.discard(task.uuid)

    def _rows(self, journals: Listing) -> Iterator[MergeChunk]:
        last = 0
        while True:
            self._more.wait()
            self._more.clear()
            if self._stop.is_set():
                raise MergeStopped
            at_end = self._end is not None
            for page in merging.pages_after(self._task, last, self._loop):
                journals.forget()  # what is known of them must be younger than what is done in the page
                ready = page if at_end else list(takewhile(lambda row: row.state == "done", page))
                for row in ready:
                    yield merging.merge_chunk(row)
                    last = row.n
                if len(ready) < len(page):
                    break
            if at_end:
                return

    def _the_end(self) -> End:
        if self._end is None:
            raise MergeStopped
        return self._end

    def _count(self, chunks: int) -> None:
        if self._progress is not None:
            self._progress(chunks)


class _Stop(threading.Event):
    """Ends a merge, also one that waits for more."""

    def __init__(self, more: threading.Event) -> None:
        super().__init__()
        self._more = more

    def set(self) -> None:
        super().set()
        self._more.set()
