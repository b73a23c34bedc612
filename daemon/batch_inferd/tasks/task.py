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
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import BatchInferError, InputError
from batch_infer.protocol.text import Text
from batch_inferd.intake import cutter
from batch_inferd.intake.source import Pin, count_records, open_pinned, unchanged
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.store.taskdb import NAME, ChunkRow, TaskDB, disk_errno
from batch_inferd.tasks import closing, finish, states
from batch_inferd.tasks.folder import has_room
from batch_inferd.tasks.progress import Progress
from batch_inferd.tasks.states import Reason

if TYPE_CHECKING:
    from batch_inferd.backends.plan import RequestPlan
    from batch_inferd.scheduling.worker_process import WorkerProcess
    from batch_inferd.seams.files import Directory
    from batch_inferd.services.resolve import Resolved
    from batch_inferd.tasks.context import Context

_COUNT_LIMIT = 1 << 30  # bytes read to count what test_lines leaves out
_CANCEL_GRACE_S = 10.0  # how long calls in flight may still answer after a cancel
_ROOM_CHECK_S = 5.0
_READY_PAGE = 64


class Lease:
    """A chunk in a worker's hands. `unstarted` is how many of its records the worker has not sent yet."""

    def __init__(self, lease: str, task: Task, row: ChunkRow, worker: WorkerProcess) -> None:
        self.id = lease
        self.task = task
        self.row = row
        self.worker = worker
        self.unstarted = row.records - row.answered - row.error - row.missing


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
        self.position = cutter.Position(**facts["position"]) if facts.get("position") else cutter.START
        self.progress = Progress()
        self.leases: dict[str, Lease] = {}
        self.resolved: Resolved | None = None
        self.plan: RequestPlan | None = None
        self.merge_share = 0.0
        self.forgotten = False
        self._ready: deque[ChunkRow] = deque()
        self._ready_from = 0
        self._promised: set[int] = set()  # given by next_row, not yet granted
        self._batch = 1
        self._wake = asyncio.Event()
        self._driver: asyncio.Task[None] | None = None
        self._room_check = 0.0
        self._verified = False
        self.plan_problem: Text | None = None
        self._unsaved: deque[tuple[str, int, str, str, dict[str, int] | None]] = deque()

    # what others see

    @property
    def account(self) -> str:
        """The fingerprint of the account it runs on."""
        return str(self.facts["account"])

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
        )

    @property
    def input_complete(self) -> bool:
        """Whether everything that belongs to the task was cut."""
        return cutter.is_end(self.position, self.pin.size, self.test_lines)

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
        """Change and commit the state. Raises OSError, sqlite3.Error."""
        before, self.state, self.reason = self.state, state, reason
        changes = facts | {"state": state, "reason": reason.to_json() if reason else None}
        self.facts.update(changes)
        self.changed()
        await self.db.set_facts(**changes)
        if before != state:
            self.log(20, f"state {before} -> {state}" + (f": {reason.text}" if reason else ""))
        self.changed()

    async def pause(self, reason: Reason) -> None:
        """Stop giving out chunks and let the calls in flight finish. Nothing if it is not active."""
        if self.state not in states.ACTIVE or self.cancelling:
            return
        try:
            await self.set_state(states.PAUSED, reason)
        except (OSError, sqlite3.Error) as error:
            self.log(40, f"the pause could not be stored: {error}")
        self._room_check = self.context.clock.monotonic() + _ROOM_CHECK_S
        self.context.dispatcher.end_task(self, "drain")
        self.wake()

    async def resume(self) -> None:
        """Go on. The caller has resolved the task (`resolved`, `plan`)."""
        if self.state != states.PAUSED:
            return
        await self.set_state(states.RUNNING if self.progress.records else states.PREPARING, None)
        self.start()

    async def cancel(self) -> None:
        """Stop scheduling; keep and merge what was paid for. Returns once that is durable."""
        await self.db.set_facts(cancel=True)
        self.facts["cancel"] = True
        if self.state == states.PAUSED:
            await self.set_state(states.RUNNING, None)
        self.log(30, "cancelled: calls in flight may still finish")
        self.context.dispatcher.end_task(self, "drain")
        self.start()
        self.changed()

    async def retry(self) -> int:
        """Open failed and missing records of a completed task for another round; returns how many."""
        again = {"state": states.RUNNING, "reason": None, "ended": None, "identity": None}
        count = await self.db.reopen_failed(round=self.round + 1, **again)
        if count:
            failpoint("retry.committed")
            self.facts["round"] = self.round + 1
            self.log(20, f"round {self.round}: {count} records are tried again")
            await self._reopened(again)
        return count

    async def mend_journals(self) -> None:
        """After a failed identity: chunks that did not add up are run again; only their gaps are sent."""
        again = {"state": states.RUNNING, "reason": None, "ended": None, "identity": None}
        await self.db.reopen(list(self.facts.get("problem_chunks", ())), **again)
        self.log(20, f"chunks {self.facts.get('problem_chunks')} are gone through again")
        await self._reopened(again)

    async def _reopened(self, facts: dict[str, Any]) -> None:
        self.facts |= facts
        self.state, self.reason = states.RUNNING, None
        self.progress.reopened(await self.db.totals())
        self._ready.clear()
        self._ready_from = 0
        self.start()
        self.changed()

    async def forget(self) -> None:
        """The folder is gone or replaced: end everything, and write nothing any more."""
        self.forgotten = True
        self.context.dispatcher.end_task(self, "abort")
        await self.stop()
        self.log(30, "the task's folder is gone: the task is forgotten")
        await self.close()
        self.changed()

    # life

    def start(self) -> None:
        """Run the driver, if it does not run yet."""
        if self._driver is None or self._driver.done():
            self._driver = asyncio.create_task(self._drive(), name=f"task-{self.id}")
        self.context.dispatcher.add(self)
        self.wake()

    async def stop(self) -> None:
        """End the driver (not the task)."""
        driver, self._driver = self._driver, None
        if driver is not None and driver is not asyncio.current_task():
            driver.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await driver

    async def close(self) -> None:
        """Give the folder and the database back."""
        with contextlib.suppress(sqlite3.Error):
            await self.db.close()
        self.directory.close()

    def wake(self) -> None:
        """Something happened that the driver may want to look at."""
        self._wake.set()

    async def _drive(self) -> None:
        while not self.forgotten:
            self._wake.clear()
            try:
                if not await self._step():
                    return
            except (OSError, sqlite3.Error) as error:
                await self.fault(disk_errno(error), str(error))
            except InputError as error:
                await self.pause(Reason("input_changed", error.text))
            except BatchInferError as error:
                await self.pause(Reason(error.code, error.text))
            except Exception as error:
                self.context.logs.exception(self.id, "a bug in the task's driver")
                await self.pause(Reason("bug", Text("internal error: {error}", {"error": repr(error)})))

    async def _step(self) -> bool:
        """Do the next thing; False when the driver's work is over."""
        if self.state in states.ENDED:
            return False
        if self.cancelling:
            await self._close_cancelled()
            await finish.merge_and_publish(self)
            return False
        if self.state == states.PAUSED:
            if self.leases:
                await self._wait()
                return True
            return False
        while self._unsaved:
            await self.db.end_lease(*self._unsaved[0], now=self.context.clock.now())
            self._unsaved.popleft()
        if not self._verified:
            await self._verify_input()
            return True
        if not self.input_complete and self.progress.chunks["ready"] < self._ahead():
            await self._cut()
        elif self.input_complete and not self.progress.chunks["ready"] and not self.progress.chunks["leased"]:
            await self._count_left_out()
            await finish.merge_and_publish(self)
            return False
        else:
            await self._wait()
        return True

    async def _wait(self) -> None:
        await self._wake.wait()

    def _ahead(self) -> int:
        """Chunks to keep ready: enough for four windows, at least four, at most 256."""
        per_chunk = max(1, int(self.config["config"].get("lines_per_chunk", 200)))
        window = self.context.dispatcher.window(self.account)
        return max(4, min(256, -(-4 * window // per_chunk)))

    async def _verify_input(self) -> None:
        """What was cut must still be what the input says; cheap when the file was not touched."""
        if self.position.offset and not unchanged(self.pin):
            rows = await self.db.pages_all()
            source = open_pinned(self.pin)
            try:
                bad = await asyncio.to_thread(cutter.verify, self.directory, source, rows)
            finally:
                os.close(source)
            if bad is not None:
                raise InputError(
                    Text(
                        "the input {path} has changed since the submit (chunk {chunk} differs)",
                        {"path": self.pin.path, "chunk": bad},
                    )
                )
            self.log(30, "the input file was touched; what was cut of it is unchanged")
        self._verified = True

    async def _cut(self) -> None:
        count = min(self._batch, self._ahead())
        self._batch = min(32, self._batch * 2)  # the first chunk leaves soon, later ones in bulk
        source = open_pinned(self.pin)
        try:
            rows, position = await asyncio.to_thread(
                cutter.cut,
                self.directory,
                source,
                self.pin.size,
                self.position,
                per_chunk=int(self.config["config"].get("lines_per_chunk", 200)),
                limit=self.test_lines,
                count=count,
            )
        finally:
            os.close(source)
        if not rows:
            raise InputError(Text("the input {path} has become shorter", {"path": self.pin.path}))
        await self.db.add_chunks(rows, position=position._asdict())
        failpoint("cut.committed")
        self.position = position
        self.progress.cut(rows)
        if self.state == states.PREPARING:
            await self.set_state(states.RUNNING)
        self.context.dispatcher.wake()
        self.changed()

    async def _count_left_out(self) -> None:
        if not self.test_lines or self.position.offset >= self.pin.size or "left_out_exact" in self.facts:
            return
        count, exact = await asyncio.to_thread(
            count_records,
            self.pin.path,
            self.position.offset,
            self.pin.size,
            lambda: self.forgotten,
            _COUNT_LIMIT,
        )
        await self.db.set_facts(left_out=count, left_out_exact=exact)
        self.facts |= {"left_out": count, "left_out_exact": exact}

    async def _close_cancelled(self) -> None:
        """Wait for the calls in flight, bounded; then give every open record its terminal."""
        await self._wait_for_leases(_CANCEL_GRACE_S)
        if self.leases:
            self.context.dispatcher.end_task(self, "abort")
            await self._wait_for_leases(None)
        while rows := await self.db.page(0, _READY_PAGE, "ready"):
            for row in rows:
                counts = await asyncio.to_thread(closing.close_chunk, self, row)
                await self.db.finish_chunk(row.n, counts)
                self.progress.finished_open(row, counts)
                self.changed()

    async def _wait_for_leases(self, seconds: float | None) -> None:
        clock = self.context.clock
        deadline = None if seconds is None else clock.monotonic() + seconds
        while self.leases and (deadline is None or clock.monotonic() < deadline):
            self._wake.clear()
            timer = asyncio.create_task(clock.sleep(0.5))
            waiter = asyncio.create_task(self._wake.wait())
            await asyncio.wait([timer, waiter], return_when=asyncio.FIRST_COMPLETED)
            for one in (timer, waiter):
                one.cancel()

    # the scheduler's side

    async def next_row(self) -> ChunkRow | None:
        """A ready chunk, taken off the list; None when there is none now."""
        if not self._ready and self.progress.chunks["ready"]:
            self._ready.extend(await self.db.page(self._ready_from, _READY_PAGE, "ready"))
            if not self._ready and self._ready_from:
                self._ready_from = 0  # released chunks stand before it
                self._ready.extend(await self.db.page(0, _READY_PAGE, "ready"))
            taken = self._promised | {lease.row.n for lease in self.leases.values()}
            self._ready = deque(row for row in self._ready if row.n not in taken)
            if self._ready:
                self._ready_from = self._ready[-1].n
        if not self._ready:
            return None
        row = self._ready.popleft()
        self._promised.add(row.n)
        return row

    async def grant(self, row: ChunkRow, worker: WorkerProcess) -> Lease:
        """Commit a lease of `row`, which `next_row` gave, to `worker`. Raises OSError, sqlite3.Error."""
        self._promised.discard(row.n)
        lease = Lease(uuid.uuid4().hex[:12], self, row, worker)
        self.leases[lease.id] = lease
        self.progress.leased(lease.id, row)
        try:
            await self.db.grant(lease.id, row.n, worker.key, self.context.clock.now())
        except BaseException:
            del self.leases[lease.id]
            self.progress.ended(lease.id, "ready", None)
            raise
        failpoint("lease.committed")
        return lease

    async def lease_ended(self, lease: Lease, outcome: str, counters: dict[str, Any] | None) -> None:
        """A worker gave a chunk back (`sealed`: it is done), or died with it."""
        state = "done" if outcome == "sealed" else "ready"
        self.leases.pop(lease.id, None)
        counts = self.progress.ended(lease.id, state, counters)
        if state == "ready":
            self._ready_from = 0
        if not self.forgotten:
            end = (lease.id, lease.row.n, state, outcome, counts)
            try:
                await self.db.end_lease(*end, now=self.context.clock.now())
            except (OSError, sqlite3.Error) as error:
                self._unsaved.append(end)  # committed before the driver does anything else
                await self.fault(disk_errno(error), str(error))
            if state == "done":
                failpoint("seal.committed")
        self.wake()
        self.changed()

    async def fault(self, code: int | None, message: str) -> None:
        """A write failed: wait for room, or for a person."""
        if self.forgotten or not self.directory.still_there():
            return
        self.log(40, f"a write failed: {message}")
        if code in (errno.ENOSPC, errno.EDQUOT):
            text = Text("the disk is full; the task goes on by itself when there is room again")
            await self.pause(Reason("disk_full", text))
        else:
            detail = message or os.strerror(code or errno.EIO)
            await self.pause(
                Reason("io", Text("reading or writing the task's files failed: {detail}", {"detail": detail}))
            )

    async def look_for_room(self) -> None:
        """Called each second: a task that waits for room on the disk goes on when there is some."""
        now = self.context.clock.monotonic()
        if self.state != states.PAUSED or self.reason is None or self.reason.code != "disk_full":
            return
        if now >= self._room_check:
            self._room_check = now + _ROOM_CHECK_S
            if await asyncio.to_thread(has_room, self.directory):
                try:
                    await self.resume()
                except (OSError, sqlite3.Error) as error:
                    await self.fault(disk_errno(error), str(error))
