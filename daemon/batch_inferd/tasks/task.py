"""One task of the daemon: its state, its driver, and what the scheduler asks of it.

The driver is one coroutine that looks at the state, does the next thing, and waits to be woken: cut
ahead while the task runs, close what is open when it was cancelled, merge when all chunks are done.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sqlite3
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import BatchInferError, InputError
from batch_infer.protocol.text import Text
from batch_inferd.batches.run import AHEAD, BatchRun
from batch_inferd.intake.source import Pin
from batch_inferd.seams.clock import within
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.store.taskdb import NAME, TaskDB, disk_errno
from batch_inferd.tasks import cancelled, closing, finish, retrying, states
from batch_inferd.tasks.budget import TaskBudget
from batch_inferd.tasks.early import EarlyMerge
from batch_inferd.tasks.folder import room_errno
from batch_inferd.tasks.money import TaskMoney
from batch_inferd.tasks.progress import Progress
from batch_inferd.tasks.reading import Reading
from batch_inferd.tasks.room import FIRST_BYTES, Room
from batch_inferd.tasks.spooling import Spooling
from batch_inferd.tasks.states import Reason
from batch_inferd.tasks.supply import Supply
from batch_inferd.tasks.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from batch_inferd.backends.plan import RequestPlan
    from batch_inferd.seams.files import Directory
    from batch_inferd.services.resolve import Resolved
    from batch_inferd.tasks.context import Context
    from batch_inferd.tasks.lease import Lease

_TROUBLE_S, _TROUBLE_MAX_S = 5.0, 60.0  # before a cancelled task tries again to end


class Task:
    """A task with its folder open. Made by `tasks.opening`; owned by the registry."""

    def __init__(
        self,
        context: Context,
        task_id: str,
        directory: Directory,
        db: TaskDB,
        facts: dict[str, Any],
        config: dict[str, Any],
    ) -> None:
        self.context = context
        self.id = task_id
        self.directory = directory
        self.db = db
        self.facts = facts
        self.config = config
        self.uuid = str(facts["uuid"])
        self.state = str(facts["state"])
        self.reason = Reason.from_json(facts.get("reason"))
        self.pin = Pin.from_json(facts["pin"])
        self.spooling = Spooling(self)
        self.reading = Reading(self)
        self.progress = Progress()
        self.money = TaskMoney(self)
        self.budget = TaskBudget(self)
        self.leases: dict[str, Lease] = {}
        self.resolved: Resolved | None = None
        self.plan: RequestPlan | None = None
        self.early = EarlyMerge(self)
        self.merge_share = 0.0
        self.forgotten = False
        self._wake = asyncio.Event()
        self._driver: asyncio.Task[None] | None = None
        self.room = Room()
        self.going_on = False  # between the decision to go on and its end
        self._storage = asyncio.Lock()  # opening and closing, while others may ask
        self._users = 0
        self.log_path = ""
        self._asleep = False
        self.trouble: Reason | None = None  # why a cancelled task cannot end yet
        self.plan_problem: Text | None = None
        self.batch = BatchRun(self) if config["backend"] == "batch" else None
        self.supply = Supply(self)
        self._late: asyncio.Task[None] | None = None

    # what others see

    @property
    def account(self) -> str:
        """The fingerprint of the account it runs on."""
        return str(self.config["account"])

    @property
    def round(self) -> int:
        """0, then one more with every `-retry`."""
        return int(self.facts.get("round", 0))

    @property
    def cancelling(self) -> bool:
        """Cancelled, and not yet ended."""
        return bool(self.facts.get("cancel")) and self.state not in states.ENDED

    @property
    def running(self) -> bool:
        """Whether its chunks may be given to workers."""
        return (
            self.state in (states.PREPARING, states.RUNNING)
            and not self.cancelling
            and not self.forgotten
            and self.plan is not None
            and not self.facts.get(retrying.FACT)  # its journals are not all in their places
        )

    @property
    def backend(self) -> str:
        """`batch` or `online`."""
        return str(self.config["backend"])

    def rests_for(self, code: str) -> bool:
        """Whether it is paused for this reason."""
        return self.state == states.PAUSED and self.reason is not None and self.reason.code == code

    @property
    def input_name(self) -> str:
        """The input as it was named at submit."""
        return str(self.facts.get("input_name") or self.pin.path)

    @property
    def input_complete(self) -> bool:
        """Whether everything that belongs to the task was cut."""
        return self.reading.complete

    @property
    def test_lines(self) -> int:
        """The limit of records; 0 is none."""
        return int(self.config["config"].get("test_lines", 0))

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.config["model"])

    @property
    def service(self) -> str:
        """Where its calls go: the base URL, once the task is resolved."""
        return self.resolved.base_url if self.resolved else str(self.config["service"])

    @property
    def uses_test_service(self) -> bool:
        """Whether it runs on the embedded service, which the daemon keeps alive."""
        return bool(self.config["profile"]["embedded"])

    def has_database(self) -> bool:
        """Whether task.db is still in the folder: without it the task was removed by hand."""
        return (self.directory.path / NAME).exists()

    def changed(self) -> None:
        """Tell whoever watches."""
        self.context.events.emit("task.changed", task=self)

    def log(self, level: int, message: str, chunk: int | None = None) -> None:
        """A line in the task's log."""
        self.context.logs.log(self.id, level, chunk, message)

    # state

    async def set_state(self, state: str, reason: Reason | None = None, **facts: Any) -> None:
        """Commit and take over a new state; as it was before when that fails.

        Raises OSError, sqlite3.Error.
        """
        before = (self.state, self.reason, self.facts)
        changes = facts | {"state": state, "reason": reason.to_json() if reason else None}
        self.state, self.reason, self.facts = state, reason, self.facts | changes
        self.changed()
        try:
            await self.db.set_facts(**changes)
        except BaseException:
            self.state, self.reason, self.facts = before
            raise
        finally:
            self.changed()
        if before[0] != state:
            self.log(20, f"state {before[0]} -> {state}" + (f": {reason.text}" if reason else ""))

    async def pause(self, reason: Reason) -> None:
        """Stop giving out chunks and let the calls in flight finish. Nothing if it is not active."""
        if self.state not in states.ACTIVE or self.cancelling or self.forgotten:
            return
        try:
            await self.set_state(states.PAUSED, reason)
        except Exception as error:  # noqa: BLE001
            # It rests all the same; a daemon that starts anew finds out by itself.
            self.log(40, f"the pause could not be stored: {error!r}")
            self.state, self.reason = states.PAUSED, reason
            self.changed()
        if reason.code == "disk_full":
            self.room.full(self.context.clock.monotonic())
        self.context.dispatcher.end_task(self, "drain")
        self.wake()

    async def resume(self, *, by_person: bool = False) -> None:
        """Go on. The caller has resolved the task (`resolved`, `plan`). Raises OSError, sqlite3.Error."""
        if self.state == states.PAUSED:
            if by_person and self.rests_for("input_changed"):
                (self.spooling if self.spooling.open else self.reading).accept()
            if by_person and self.rests_for("unsettled") and self.batch is not None:
                self.batch.allow_unsettled()
            await self.set_state(states.RUNNING if self.progress.records else states.PREPARING, None)
            if self.budget.used_up and (self.progress.counts()["pending"] or not self.input_complete):
                await self.pause(self.budget.reason())
        self.start()

    async def cancel(self) -> None:
        """Stop scheduling; keep and merge what was paid for. Returns once that is durable."""
        state = states.RUNNING if self.state == states.PAUSED else self.state
        await self.set_state(state, None, cancel=True)
        failpoint("cancel.committed")
        self.log(30, "cancelled: what is in flight may still finish")
        self.context.dispatcher.end_task(self, "drain")
        self.start()

    async def retry(self, chunks: list[tuple[int, int]] | None = None) -> int:
        """Open failed and missing records of a completed task for another round; returns how many.

        `chunks`: only those of these chunks, (first, last) inclusive.
        """
        count = await self.db.reopen_failed(self.round + 1, chunks, **states.AGAIN)
        if count:
            failpoint("retry.committed")
            self.facts["round"] = self.round + 1
            self.log(20, f"round {self.round}: {count} records are tried again")
            await self.reopened()
        return count

    async def mend_journals(self) -> None:
        """After a failed identity: chunks that did not add up are run again; only their gaps are sent."""
        chunks = list(self.facts.get("problem_chunks", ()))
        doubles = await in_thread(lambda: closing.quarantine_doubles(self, chunks))
        await self.db.reopen(chunks, self.round, **states.AGAIN)
        self.log(20, f"{len(chunks)} chunks are gone through again; {doubles} double records set aside")
        await self.reopened()

    async def reopened(self) -> None:
        """Some chunks of the ended task were opened: it runs again. Raises sqlite3.Error."""
        self.facts |= states.AGAIN
        self.state, self.reason = states.RUNNING, None
        self.progress.reopened(await self.db.totals())
        await self.supply.reset()
        self.start()
        self.changed()

    async def forget(self) -> None:
        """The folder is gone or replaced: end everything, and write nothing any more."""
        if self.forgotten:
            return
        self.forgotten = True
        self.log(30, "the task's folder is gone: the task is forgotten")
        self.context.dispatcher.end_task(self, "abort")
        self.context.dispatcher.remove(self)
        self.changed()
        if self.batch is not None:
            await self.batch.cancel_upstream()
        await self.stop()
        await self.close()

    # life

    @property
    def is_driven(self) -> bool:
        """Whether its driver runs."""
        return self._driver is not None and not self._driver.done()

    def start(self) -> None:
        """Run the driver, if it does not run yet."""
        if self.forgotten:
            return
        if not self.is_driven:
            self._driver = asyncio.create_task(self._drive(), name=f"task-{self.id}")
            self.money.start()
        self.context.dispatcher.add(self)
        self.wake()

    async def stop(self) -> None:
        """End the driver (not the task)."""
        driver, self._driver = self._driver, None
        late, self._late = self._late, None
        for job in (driver, late):
            if job is not None and job is not asyncio.current_task():
                job.cancel()
                await asyncio.wait([job])
        await self.early.give_up()
        if self.batch is not None:
            await self.batch.stop()
        await self.money.stop()

    async def close(self) -> None:
        """Give the folder, the database and the log back."""
        await self.budget.written()
        with contextlib.suppress(sqlite3.Error):
            await self.db.close()
        self.directory.close()
        self.context.logs.close(self.id)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Inside, the database is open, also of a task that has ended.

        Thousands of ended tasks may stand in a workspace: each holds no more than its folder's handle,
        by which it is known again. Raises OSError, sqlite3.Error, Damaged.
        """
        async with self._storage:
            if self._asleep:
                if not self.directory.still_there():
                    raise FileNotFoundError(errno.ENOENT, "the task was removed", str(self.directory.path))
                self.db = await TaskDB.open(self.context.store, self.directory.path)
                self._asleep = False
            self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            await self.rest()

    async def rest(self) -> None:
        """Give database and log of an ended task back, unless somebody uses them."""
        async with self._storage:
            if self.state in states.ENDED and not self._users and not self._asleep and not self.forgotten:
                self._asleep = True
                with contextlib.suppress(sqlite3.Error):
                    await self.db.close()
                self.context.logs.close(self.id)

    def wake(self) -> None:
        """Something happened that the driver may want to look at."""
        self._wake.set()

    async def _drive(self) -> None:
        troubles = 0
        while not self.forgotten:
            self._wake.clear()
            try:
                if not await self._step():
                    await self.rest()
                    self.look_late()
                    return
            except (OSError, sqlite3.Error) as error:
                await self.fault(disk_errno(error), str(error))
            except BatchInferError as error:
                code = "input_changed" if isinstance(error, InputError) else error.code
                await self.pause(Reason(code, error.text))
            except Exception as error:
                self.context.logs.exception(self.id, "a bug in the task's driver")
                await self.bug(repr(error))
            else:
                continue
            if self.cancelling:  # it cannot pause: it tries again to end, less and less often
                troubles += 1
                await self.rest_or_wake(min(_TROUBLE_S * 2 ** min(troubles - 1, 32), _TROUBLE_MAX_S))

    async def _step(self) -> bool:
        """Do the next thing; False when the driver's work is over."""
        if self.state in states.ENDED:
            return False
        await self.supply.save_ended()
        if self.cancelling:
            await self.early.give_up()
            await retrying.finish_carrying(self)
            await cancelled.close(self)
            await finish.merge_and_publish(self)
            return False
        if self.state == states.PAUSED:
            await self.early.give_up()
            if self.batch is not None:
                await self.batch.stop()
            if self.state != states.PAUSED:
                return True  # it was told to go on while that took its time
            if self.leases:
                await self._wake.wait()
                return True
            return False
        if self.facts.get(retrying.FACT):
            await retrying.finish_carrying(self)
            self.context.dispatcher.wake()
        if self.spooling.open and self.state == states.PREPARING:
            await self.spooling.run()
            return True
        if self.batch is not None:
            self.batch.start()
        self.early.look()
        if not self.input_complete and self.supply.fresh < self._ahead():
            await self._cut()
        elif self.input_complete and not self.progress.chunks["ready"] and not self.progress.chunks["leased"]:
            if self.batch is not None:
                await self.batch.finish()
            await self.reading.count_left_out()
            await finish.merge_and_publish(self)
            return False
        else:
            await self._wake.wait()
        return True

    def look_late(self) -> None:
        """If it was cancelled before its batches had ended: collect what they bring in the end."""
        if self.batch is None or self.plan is None or not self.facts.get("late"):
            return
        if self._late is None or self._late.done():
            self._late = asyncio.create_task(cancelled.look_late(self, self.batch), name=f"late-{self.id}")

    def go_on_closing(self) -> None:
        """Late results are there: the driver closes the cancelled task once more."""
        self._late = None
        self.start()

    async def rest_or_wake(self, seconds: float, *, anew: bool = False) -> None:
        """Wait `seconds` of the clock, or until woken; with `anew`, earlier wakes do not count."""
        if anew:
            self._wake.clear()
        await within(self.context.clock, self._wake.wait(), seconds)

    def _ahead(self) -> int:
        """Chunks to keep ready: enough for four windows, at least four, at most 256."""
        if self.batch is not None:
            return 2 * AHEAD
        per_chunk = max(1, int(self.config["config"]["lines_per_chunk"]))
        window = self.context.dispatcher.window(self.account)
        return max(4, min(256, -(-4 * window // per_chunk)))

    async def _cut(self) -> None:
        rows = await self.reading.cut(self._ahead())
        self.progress.cut(rows)
        if self.state == states.PREPARING:
            await self.set_state(states.RUNNING)
        self.context.dispatcher.wake()
        self.changed()

    # the disk

    async def fault(self, code: int | None, message: str) -> None:
        """A write failed: wait for room, or for a person."""
        if self.forgotten or not self.directory.still_there():
            return
        self.log(40, f"a write failed: {message}")
        if code == errno.EIO:  # SQLite says so for a spent quota too
            code = await asyncio.to_thread(room_errno, self.directory, FIRST_BYTES) or code
        if code in (errno.ENOSPC, errno.EDQUOT):
            text = Text("the disk is full; the task goes on by itself when there is room again")
            reason = Reason("disk_full", text)
        else:
            detail = message or os.strerror(code or errno.EIO)
            reason = Reason(
                "io", Text("reading or writing the task's files failed: {detail}", {"detail": detail})
            )
        await self._troubled(reason)

    async def bug(self, error: str) -> None:
        """Something went wrong that nobody thought of: it waits for a person."""
        if self.forgotten:
            return
        await self._troubled(Reason("bug", Text("internal error: {error}", {"error": error})))

    async def _troubled(self, reason: Reason) -> None:
        if self.cancelling:
            self.trouble = reason
            self.changed()
        await self.pause(reason)

    async def found_room(self) -> bool:
        """Called each second: whether a task that waits for room on the disk may go on."""
        if not self.rests_for("disk_full") or not self.room.is_due(self.context.clock.monotonic()):
            return False
        return await asyncio.to_thread(self.room.is_there, self.directory)
