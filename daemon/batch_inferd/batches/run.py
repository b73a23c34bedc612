"""A task's batch engine: it packs while there is room, and keeps one life going for each open submission.

It is started and stopped by the task's driver: a task that rests makes no calls, and its batches upstream
run on. All of its state is in task.db: every start reads it anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections import Counter, deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from batch_infer.protocol.text import Text
from batch_inferd.backends.batch.provider import ProviderError
from batch_inferd.backends.batch.registry import make_provider
from batch_inferd.backends.transport import NotSent
from batch_inferd.batches import packing, refusal
from batch_inferd.batches import submission as states
from batch_inferd.batches.life import Life
from batch_inferd.batches.packing import Half
from batch_inferd.batches.submission import Submission
from batch_inferd.batches.terms import Terms
from batch_inferd.batches.uploads import Uploads
from batch_inferd.scheduling.jobs import FolderGone, JobLost
from batch_inferd.seams.clock import within
from batch_inferd.store.submissions import CLOSED
from batch_inferd.store.taskdb import disk_errno
from batch_inferd.tasks.states import Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterable

    from batch_inferd.batches.reach import Reach
    from batch_inferd.store.submissions import Change, ChunkEnd
    from batch_inferd.tasks.task import Task

T = TypeVar("T")
_log = logging.getLogger(__name__)
AHEAD = 4  # submissions that are packed and not created yet
FOLDER = "batches"
_FORGET_S = 30.0  # for the cancels of a task that was removed
_LOST_MAX = 10
_DELETE_S = 15.0  # at the end of a task, for uploads to be deleted
_BRIEF_S = 5.0  # a stop waits so long for the answer to a create
_LOOK_S = 1.0  # between two looks for chunks that became ready without a word


class BatchRun(Terms):
    """One task's. `cancelling`: nothing new begins, what runs upstream is cancelled and collected."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.open: dict[int, Submission] = {}
        self.busy: set[int] = set()  # chunks whose journals a job reads or writes
        self.cancelling = False
        self.stopping = False
        self.pool_due: float | None = None  # wall time at which leftovers have waited long enough
        self.allowed: set[int] = set()  # unsettled submissions that a person said to create again
        self.collected = 0  # submissions whose results are home
        self.refused = self.dropped = 0  # submissions that came to nothing
        self.answered = 0  # records answered by batches
        self.left_open = 0  # submissions that had not ended when the task was cancelled
        self.most_tokens: int | None = None  # of a submission, where the service's limit was found out
        self.late_tries = 0  # to collect what ended after the cancel, in vain
        self.image_changes: Counter[int] = Counter()  # input line -> changes between packing and sending
        self._lives: dict[int, asyncio.Task[None]] = {}
        self._works: set[asyncio.Task[Any]] = set()  # not to be broken off
        self._brief: set[asyncio.Task[Any]] = set()  # to be broken off only after a moment
        self._uploads = Uploads(self)
        self._halves: deque[Half] = deque()
        self._main: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._free = asyncio.Condition()
        self._error: BaseException | None = None
        self._allow = False
        self._lost: Counter[str] = Counter()  # jobs in a row whose worker ended
        self._listening: Reach | None = None
        self.began = 0.0  # wall time of the last start
        self._stops = 0  # under way: nothing is started then

    # life

    def start(self) -> None:
        """Run, if it does not run yet. Nothing while it is being stopped."""
        if self._stops:
            return
        if self._main is None or self._main.done():
            self.stopping = False
            self.began = self.clock.now()
            self.cancelling = self.task.cancelling
            self._main = asyncio.create_task(self._run(), name=f"batches-{self.task.id}")
        self.wake()

    async def stop(self) -> None:
        """End all calls. What writes journals is let finish; batches upstream run on."""
        self.stopping = True
        self._stops += 1
        try:
            await self._stop()
        finally:
            self._stops -= 1

    async def _stop(self) -> None:
        running = [self._main, *self._lives.values()]
        for job in running:
            if job is not None and job is not asyncio.current_task():
                job.cancel()
        self.task.context.dispatcher.jobs.drop_waiting(self.task)
        others = [job for job in running if job is not None and job is not asyncio.current_task()]
        if others:
            await asyncio.wait(others)
        if self._brief:
            _, late = await asyncio.wait(self._brief, timeout=_BRIEF_S)
            for job in late:
                job.cancel()
        while self._works or self._brief:
            self.task.context.dispatcher.jobs.drop_waiting(self.task)
            await asyncio.wait(self._works | self._brief)
        self._main = None
        self._lives.clear()
        for one in self.open.values():
            if one.state in states.UNCREATED or one.state == states.ENDED:
                self.capacity.release(self.key(one))
                if one.state != states.ENDED:
                    self.task.budget.release(one)
            else:
                self.poller.forget(self.key(one))
                self.capacity.rest(self.key(one), (one.detail.expires or 0.0) - self.clock.now())
            one.step = ""
        self._halves.clear()
        if self._listening is not None:
            self._listening.listeners.discard(self._on_network)
            self._listening = None
        await self._uploads.stop()
        await self.close_provider()

    async def replan(self) -> None:
        """The plan was replaced: calls go by the new one, perhaps to another address."""
        if self._main is not None and not self._main.done():
            await self.stop()
            self.task.wake()  # it starts again with the driver's next step

    def allow_unsettled(self) -> None:
        """A person says that what is unsettled, and cannot be asked for, is to be created again."""
        self._allow = True

    def wake(self) -> None:
        """Something changed: look again."""
        self._wake.set()

    async def finish(self) -> None:
        """All is collected: give the deletion of uploads a moment, then end."""
        await self._uploads.finish(_DELETE_S)
        await self.stop()

    async def finish_cancelled(self, seconds: float, *, only_ended: bool = False) -> None:
        """Cancel upstream, wait for the providers' last words at most `seconds`, collect what was paid.

        `only_ended`: batches that still run are left alone. Raises OSError, sqlite3.Error.
        """
        await self.stop()
        self.stopping, self.cancelling, self._error = False, True, None
        await self._load()
        deadline = self.clock.monotonic() + seconds
        try:
            while not self._error:
                self._wake.clear()
                waited = [
                    one
                    for one in self.open.values()
                    if (not only_ended or one.state == states.ENDED) and not self._has_given_up(one)
                ]
                if not waited or (self.clock.monotonic() >= deadline and not self._works):
                    break
                self._spawn_lives(waited)
                await self._idle()
            if self._error:
                raise self._error
            self.left_open = len(self.open)
            await self._uploads.finish(_DELETE_S)
        finally:
            await self.stop()
            self.stopping = False

    async def cancel_upstream(self) -> None:
        """The task's folder is gone: ask the provider to end its batches, as far as it hears us."""
        await self.stop()
        live = [one.upstream_id for one in self.open.values() if one.state == states.LIVE and one.upstream_id]
        files = [one.input_ref for one in self.open.values() if one.input_ref]
        for one in self.open.values():
            self.capacity.release(self.key(one))
        if not (live or files) or self.task.plan is None:
            return
        provider = make_provider(self.plan, self.clock)

        async def cancel(batch_id: str) -> None:
            with contextlib.suppress(ProviderError, NotSent):
                await provider.cancel(batch_id)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FORGET_S):  # the watcher of all tasks waits for it
                await asyncio.gather(*map(cancel, live))
                for ref in files if self.api.delete_input else ():
                    with contextlib.suppress(ProviderError, NotSent):
                        await provider.delete_upload(ref)
        await provider.close()

    async def look_late(self) -> bool:
        """After a cancel: follow the batches that had not ended, until one has.

        True: some had ended before, and were not collected for some reason.
        """
        self.stopping, self.cancelling = False, True
        await self._load()
        if any(one.state == states.ENDED for one in self.open.values()):
            return True
        self._spawn_lives([one for one in self.open.values() if one.state not in states.UNCREATED], late=True)
        while not any(one.state == states.ENDED for one in self.open.values()):
            following = [life for life in self._lives.values() if not life.done()]
            if not following:
                break
            await asyncio.wait(following, return_when=asyncio.FIRST_COMPLETED)
        return False

    async def _run(self) -> None:
        try:
            await self._load()
            while True:
                self._wake.clear()
                self._spawn_lives(list(self.open.values()))
                if not await self._pack_some():
                    await self._idle()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  it belongs to the task
            await self._failed(error)

    async def _load(self) -> None:
        """Read what is open from task.db, and remove files that belong to nothing."""
        self._listening = self.reach
        self._listening.listeners.add(self._on_network)
        self.open.clear()
        for row, lines in await self.store.open():
            one = Submission.from_row(row, lines)
            self.open[one.id] = one
            if one.state in (states.LIVE, *states.MAYBE_CREATED):
                self.capacity.adopt(self.key(one), one.detail.tokens)
            self.task.budget.adopt(one)
        await self.count()
        if self._allow:
            self.allowed = {one.id for one in self.open.values() if one.state in states.MAYBE_CREATED}
            self._allow = False
        lost = self.lost_at()
        if lost is not None and lost - self.clock.now() < states.LOSS_WARNING_S:
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(lost))
            self.task.log(30, f"the provider may remove results that are not fetched yet, from {when} on")
        needed = {one.detail.file for one in self.open.values()}
        await asyncio.to_thread(self._tidy, needed)
        await self._uploads.load()

    async def count(self) -> None:
        """Know how many submissions were collected, and what they brought. Raises sqlite3.Error."""
        totals = await self.store.totals()
        self.collected = totals.get(states.COLLECTED, 0)
        self.refused = totals.get(states.REFUSED, 0)
        self.dropped = totals.get(states.DROPPED, 0)
        self.answered = (await self.store.results())["answered"]

    def _tidy(self, needed: set[str]) -> None:
        directory = self.task.directory
        with contextlib.suppress(FileNotFoundError):
            for name in directory.listdir(FOLDER):
                path = f"{FOLDER}/{name}"
                if path not in needed and not name.endswith(".quarantine.jsonl"):
                    directory.unlink(path)

    def _spawn_lives(self, submissions: Iterable[Submission], *, late: bool = False) -> None:
        for one in submissions:
            if one.id not in self._lives:
                self._lives[one.id] = asyncio.create_task(self._live(one, late=late), name=f"batch-{one.id}")

    async def _live(self, one: Submission, *, late: bool) -> None:
        try:
            life = Life(self, one)
            await (life.until_ended() if late else life.run())
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  it belongs to the task
            await self._failed(error)
        else:
            if one.closed:
                self.open.pop(one.id, None)
                self._lives.pop(one.id, None)
        finally:
            self.wake()
            self.task.wake()

    async def _failed(self, error: BaseException) -> None:
        task = self.task
        if isinstance(error, FolderGone | JobLost):
            return  # the watcher of the folders, or the one who stops us, knows
        self._error = error
        if isinstance(error, OSError | sqlite3.Error):
            await task.fault(disk_errno(error), str(error))
            return
        _log.error("a bug in the batch engine of task %s", task.id, exc_info=error)
        task.log(logging.ERROR, f"a bug in the batch engine: {error!r}; the daemon's log has more")
        await task.pause(Reason("bug", Text("internal error: {error}", {"error": repr(error)})))

    # packing

    async def _pack_some(self) -> bool:
        """Pack once; False when there is nothing to pack now."""
        if not self.task.running or self.cancelling:
            return False
        before = [
            one for one in self.open.values() if one.state in (*states.UNCREATED, *states.MAYBE_CREATED)
        ]
        if len(before) >= AHEAD:
            return False
        half = self._halves[0] if self._halves else None
        if half is not None:
            rows = await self.store.chunks(half.lines)
        else:
            rows = await packing.choose(self, quiet=not self.open and not self.task.leases)
        if not rows:
            return False
        try:
            made = await self.whole(self._pack(rows, half))
        except JobLost:
            if self.stopping:
                raise
            return True
        if half is not None:
            self._halves.popleft()
        self._spawn_lives(made)
        self.task.wake()
        return True

    async def _pack(self, rows: list[Any], half: Half | None) -> list[Submission]:
        async with self.working_on([row.n for row in rows]):
            made = await packing.pack(self, rows, half)
        for one in made:
            self.open[one.id] = one
        return made

    def split(self, one: Submission, family: int) -> None:
        """Pack a refused submission's lines again, in two halves."""
        for lines in refusal.halves(one.lines):
            self._halves.append(Half(lines, one.detail.depth + 1, family))

    # what lives ask for

    async def job(self, kind: str, params: dict[str, Any], name: str | None = None) -> dict[str, Any]:
        """A job's result. See `Jobs.run`. Raises JobLost at once while it is being stopped."""
        if self.stopping:
            raise JobLost(f"a {kind} job comes too late")
        try:
            result = await self.task.context.dispatcher.jobs.run(self.task, kind, params, name=name)
        except JobLost:
            if not self.stopping:
                self._lost[kind] += 1
                if self._lost[kind] > _LOST_MAX:
                    raise RuntimeError(f"{self._lost[kind]} workers in a row ended in a {kind} job") from None
                await self.clock.sleep(min(0.1 * 2.0 ** self._lost[kind], 30.0))
            raise
        del self._lost[kind]
        return result

    async def whole(self, work: Coroutine[Any, Any, T], *, brief: bool = False) -> T:
        """Do something that a stop does not break off (`brief`: not at once)."""
        works = self._brief if brief else self._works
        job = asyncio.create_task(work)
        works.add(job)
        job.add_done_callback(works.discard)
        job.add_done_callback(_seen)
        return await asyncio.shield(job)

    @asynccontextmanager
    async def working_on(self, chunks: list[int]) -> AsyncIterator[None]:
        """Inside, nobody else reads or writes the journals of these chunks."""
        wanted = set(chunks)
        async with self._free:
            await self._free.wait_for(lambda: not self.busy & wanted)
            self.busy |= wanted
        try:
            yield
        finally:
            async with self._free:
                self.busy -= wanted
                self._free.notify_all()

    async def save(self, one: Submission) -> None:
        """Commit where a submission stands. Raises sqlite3.Error."""
        await self.store.update(one.id, **one.columns(), now=self.clock.now())
        self.tell()

    async def close(self, one: Submission, state: str, ends: list[ChunkEnd]) -> None:
        """Commit the end of a submission, whole; its lines are free, its file goes. Raises sqlite3.Error."""
        if state not in CLOSED:
            raise ValueError(state)
        await self.whole(self._close(one, state, ends))

    async def _close(self, one: Submission, state: str, ends: list[ChunkEnd]) -> None:
        before, one.state = one.state, state
        one.detail.upload_left = one.input_ref is not None and self.api.delete_input
        one.detail.charged = self.task.budget.charge(one, collected=state == states.COLLECTED)
        try:
            changes = await self.store.close(
                one.id, **one.columns(), lines=one.lines, ends=ends, now=self.clock.now()
            )
        except BaseException:
            one.state = before
            raise
        if one.detail.upload_left and one.input_ref is not None:
            self._uploads.add(one.id, one.input_ref)
        self.open.pop(one.id, None)
        self._lives.pop(one.id, None)
        self.collected += state == states.COLLECTED
        self.refused += state == states.REFUSED
        self.dropped += state == states.DROPPED
        self.answered += (one.detail.results or {}).get("answered", 0)
        self.capacity.release(self.key(one))
        self.task.budget.settled(one)
        self.changed(changes)
        if state != states.COLLECTED:  # collecting removes it with the files that were fetched
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self.task.directory.unlink, one.detail.file)

    def changed(self, changes: list[Change]) -> None:
        """Chunks are in another state now."""
        self.task.progress.changed(changes)
        self.task.supply.changed(changes)
        self.wake()
        self.task.wake()
        self.task.context.dispatcher.wake()
        self.tell()

    def tell(self) -> None:
        """Tell whoever watches."""
        self.task.changed()

    def _on_network(self, down: Text | None) -> None:
        if down is not None:
            self.task.log(logging.WARNING, f"no connection: {down}; the task waits for it")
        else:
            self.task.log(logging.INFO, "the connection is back")
        self.tell()

    def lost_at(self) -> float | None:
        """The wall time at which the provider may remove the first results that are not here yet."""
        if self.task.plan is None:
            return None
        ends = [
            (one.detail.ended or one.detail.expires or one.created) + self.api.retention_s
            for one in self.open.values()
            if one.state in (states.LIVE, states.ENDED)
        ]
        return min(ends, default=None)

    def paid(self) -> None:
        """The provider took a batch: there is credit."""
        self.task.context.dispatcher.account(self.task.account).credit_back()

    def blocked(self, cls: str, text: Text, one: Submission) -> None:
        """The account or the model is refused: tasks pause; a cancelled one only says so."""
        self.task.log(30, f"batch {one.id}: {text}")
        if self.cancelling:
            self.task.trouble = Reason(cls, text)
            self.tell()
        else:
            self.task.context.dispatcher.blocked(self.task.account, self.task, cls, text)

    def key(self, one: Submission) -> str:
        """A submission's name among those of all tasks."""
        return f"{self.task.uuid}:{one.id}"

    def _has_given_up(self, one: Submission) -> bool:
        life = self._lives.get(one.id)
        return life is not None and life.done()

    async def _idle(self) -> None:
        """Wait until woken, or a moment."""
        await self.within(self._wake.wait(), _LOOK_S)

    async def within(self, work: Awaitable[T], seconds: float | None = None) -> T | None:
        """The result of `work`; None when `seconds` of the clock were over before."""
        return await within(self.clock, work, seconds)


def _seen(job: asyncio.Task[Any]) -> None:
    if not job.cancelled():
        job.exception()
