"""The dispatcher: keeps the workers supplied with leased chunks, and the accounts within their limits.

One loop. Each round it sizes the pool, tells every seat its share of each account's window, and grants
chunks until each seat holds, for every active task, enough unsent records to fill its share: so a small
late task is served beside a huge early one, and no seat runs dry.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from batch_infer.protocol.text import Text
from batch_inferd.journal.names import chunk_name
from batch_inferd.scheduling.account import Account, Word
from batch_inferd.scheduling.background import Background
from batch_inferd.scheduling.jobs import Jobs
from batch_inferd.scheduling.limits import Limits, weights
from batch_inferd.scheduling.neighbours import Neighbours
from batch_inferd.scheduling.pool import Layout, Pool
from batch_inferd.seams.clock import within
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.store.taskdb import disk_errno
from batch_inferd.tasks.states import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from batch_inferd.backends.plan import RequestPlan
    from batch_inferd.scheduling.seat import Seat
    from batch_inferd.seams.clock import Clock
    from batch_inferd.seams.events import Events
    from batch_inferd.tasks.lease import Lease
    from batch_inferd.tasks.task import Task

_log = logging.getLogger(__name__)
_TICK_S = 0.25
_MIN_LEASES = 16  # per task and seat, however small the window
_MAX_PER_ROUND = 64  # grants of one round: bounds the messages to a seat


class Hooks(Protocol):
    """What the dispatcher asks of whoever knows all tasks, not only those that run."""

    def all_tasks(self) -> Iterable[Task]:
        """Every task of the workspace."""

    async def go_on(self, task: Task) -> None:
        """Let a task that rests go on, if it is at home here and has what it needs. Never raises."""

    async def gone(self, task: Task) -> None:
        """The task's folder was removed or replaced."""


class Dispatcher:
    """Accounts, seats and leases. Made once a daemon; `start` runs its loop."""

    def __init__(self, folder: Path, clock: Clock, events: Events, hooks: Hooks) -> None:
        self._hooks = hooks
        self._clock = clock
        self._events = events
        self.pool = Pool(folder, clock, events, self)
        self.accounts: dict[str, Account] = {}
        self._neighbours = Neighbours(clock, self.wake)
        self.tasks: dict[str, Task] = {}
        self._leases: dict[str, Lease] = {}
        self.jobs = Jobs(self.wake)
        self._known_plans: set[tuple[str, str, int]] = set()
        self._told: dict[tuple[str, str], dict[str, Any]] = {}
        self._wake = asyncio.Event()
        self._loop_task: asyncio.Task[None] | None = None
        self._background = Background("dispatcher")
        self.stopping = False

    # tasks

    def add(self, task: Task) -> None:
        """A task wants to be served."""
        self.tasks[task.uuid] = task
        # A worker that was told to stop sending (401) begins again when its account is told anew.
        self._told = {key: value for key, value in self._told.items() if key[1] != task.account}
        self.wake()

    def remove(self, task: Task) -> None:
        """A task has ended, or its folder is gone: nothing of it stays here but leases that end."""
        if self.tasks.get(task.uuid) is not task:
            return
        del self.tasks[task.uuid]
        self._known_plans = {key for key in self._known_plans if key[1] != task.uuid}
        for seat in self.pool.seats + self.pool.leaving:
            seat.send("forget", {"task": task.uuid})

    def end_task(self, task: Task, mode: str) -> None:
        """Ask the workers to give back the task's chunks: `drain` lets calls in flight finish."""
        for lease in list(task.leases.values()):
            self._end_lease(lease, mode)

    def _end_lease(self, lease: Lease, mode: str) -> None:
        if lease.asked_to_end not in (mode, "abort"):
            lease.asked_to_end = mode
            lease.seat.send("end_lease", {"lease": lease.id, "mode": mode})

    def replan(self, task: Task) -> None:
        """The task has a newer plan: who has its chunks goes on with them by that."""
        if task.plan is not None:
            for lease in task.leases.values():
                self._tell_plan(lease.seat, task.plan)

    def window(self, fingerprint: str) -> int:
        """The account's window now."""
        return self.account(fingerprint).window

    def account(self, fingerprint: str) -> Account:
        """The controller of an account."""
        if fingerprint not in self.accounts:
            self.accounts[fingerprint] = Account(fingerprint)
        return self.accounts[fingerprint]

    def wake(self) -> None:
        """Something changed: look again soon."""
        self._wake.set()

    # life

    def start(self) -> None:
        """Run the loop."""
        self._loop_task = asyncio.create_task(self._run(), name="dispatcher")

    async def stop(self, mode: str, grace_s: float) -> None:
        """End all workers (`drain`: calls in flight may finish within `grace_s`), then the loop."""
        self.stopping = True
        await self.pool.stop(mode, grace_s)
        await self._neighbours.close()
        await self._background.wait()
        if self._loop_task is not None:
            self._loop_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop_task

    async def _run(self) -> None:
        while True:
            try:
                await self._round()
            except Exception:  # noqa: BLE001  it must go on
                _log.exception("a bug in the dispatcher; it goes on")
                await self._clock.sleep(1.0)
            await within(self._clock, self._wake.wait(), _TICK_S)

    async def _round(self) -> None:
        self._wake.clear()
        if self.stopping:
            return
        now = self._clock.monotonic()
        self._probe_credit(now)
        active = [task for task in self.tasks.values() if task.running]
        await self._size_pool(active)
        self._give_jobs(self.pool.seats)
        self._neighbours.use({task.account for task in active})
        for fingerprint in {task.account for task in self.tasks.values()}:
            await self._serve(self.account(fingerprint))

    # the pool

    async def _size_pool(self, active: list[Task]) -> None:
        wanted = [Layout.of(task.config["config"]["execution"]) for task in active]
        if self.jobs.any:
            wanted.append(Layout(1, 1))
        await self.pool.size(Layout.largest(wanted), busy=any(task.leases for task in self.tasks.values()))

    def on_seat_gone(self, seat: Seat) -> int:
        """Its chunks go to others, its jobs are lost, its share of the accounts is free."""
        lost = [lease for lease in self._leases.values() if lease.seat is seat]
        for lease in lost:
            del self._leases[lease.id]
            self._background.start(lease.task.supply.lease_ended(lease, "lost", None))
        self.jobs.seat_gone(seat)
        self._told = {key: value for key, value in self._told.items() if key[0] != seat.name}
        for account in self.accounts.values():
            account.gone(seat.name, self._clock.monotonic())
        self._known_plans = {key for key in self._known_plans if key[0] != seat.name}
        for task in self.tasks.values():
            task.budget.seat_gone(seat)
        return len(lost)

    # supply

    async def _serve(self, account: Account) -> None:
        """Tell the seats what holds, then see that each has enough to send.

        Nothing is awaited from the look at seats and tasks until all are told: a share that is given to a
        seat which has gone meanwhile would be lost, and an old word must not follow a newer one.
        """
        tasks = [task for task in self.tasks.values() if task.account == account.fingerprint and task.running]
        seats = self.pool.seats
        account.daemons = self._neighbours.number(account.fingerprint)
        account.set_limits([Limits.of(task) for task in tasks])
        for seat in self.pool.leaving:
            if (word := account.farewell(seat.name)) is not None:
                self._tell(seat, account, word)
        words = account.divide([seat.name for seat in seats], weights(tasks), self._clock.monotonic())
        for seat in seats:
            self._tell(seat, account, words[seat.name])
        for seat in seats:
            share = words[seat.name].due
            if share:
                await self._supply(seat, tasks, share)
                continue
            for lease in list(self._leases.values()):
                if lease.seat is seat and lease.task.account == account.fingerprint:
                    self._end_lease(lease, "drain")

    def _tell(self, seat: Seat, account: Account, word: Word) -> None:
        hold = account.hold_until if account.is_held(self._clock.monotonic()) else None
        message = word.to_json() | {"account": account.fingerprint, "hold_until": hold}
        content = message | {"word": None, "first_in_s": None}
        key = (seat.name, account.fingerprint)
        if self._told.get(key) != content:
            self._told[key] = content
            seat.send("account", message)

    async def _supply(self, seat: Seat, tasks: list[Task], share: int) -> None:
        wanted: list[tuple[Task, Any]] = []
        for task in tasks:
            mine = [one for one in task.leases.values() if one.seat is seat and not one.asked_to_end]
            backlog = sum(lease.unstarted for lease in mine)
            held = len(mine)
            most = max(_MIN_LEASES, 2 * share)
            while backlog < share and held < most and len(wanted) < _MAX_PER_ROUND:
                try:
                    row = await task.supply.next_row()
                except (OSError, sqlite3.Error) as error:
                    await task.fault(disk_errno(error), str(error))
                    break
                if row is None:
                    break
                wanted.append((task, row))
                backlog += max(1, row.records - row.answered - row.error - row.missing)
                held += 1
        if wanted:
            await asyncio.gather(*(self._grant(task, row, seat) for task, row in wanted))

    async def _grant(self, task: Task, row: Any, seat: Seat) -> None:
        if task.forgotten or not task.directory.still_there():
            task.supply.keep(row)
            await self._hooks.gone(task)
            return
        try:
            lease = await task.supply.grant(row, seat)
        except (OSError, sqlite3.Error) as error:
            await task.fault(disk_errno(error), str(error))
            return
        plan = task.plan
        if not seat.alive or not task.running or plan is None:
            await task.supply.lease_ended(lease, "lost", None)
            return
        self._leases[lease.id] = lease
        lease.unbounded = plan.budget is None
        self._tell_plan(seat, plan)
        seat.send("lease", task_lease(task, lease, plan.version))
        failpoint("lease.sent")
        self.wake()  # a seat that has something to send now has a share of the rates
        task.wake()

    def _tell_plan(self, seat: Seat, plan: RequestPlan) -> None:
        known = (seat.name, plan.task, plan.version)
        if known not in self._known_plans:
            self._known_plans.add(known)
            seat.send("plan", {"plan": msgspec.to_builtins(plan)})

    def _give_jobs(self, seats: list[Seat]) -> None:
        for job in self.jobs.waiting():
            if not seats:
                return
            plan = job.task.plan
            if plan is not None:
                seat = min(seats, key=self.jobs.load)
                self._tell_plan(seat, plan)
                self.jobs.give(job, seat, plan.version)

    # what seats say

    def on_message(self, seat: Seat, method: str, params: dict[str, Any]) -> None:
        """See `worker/core.py` for what they say."""
        if method == "report":
            self._on_report(seat, params)
        elif method in ("sealed", "released"):
            self._on_lease_end(method, params)
        elif method == "blocked":
            text = Text.from_wire(params.get("text"))
            source = self.tasks.get(str(params.get("task")))
            self.blocked(str(params.get("account")), source, str(params.get("code")), text)
        elif method.startswith("job_"):
            self.jobs.on_message(method, params)
        elif method == "purse":
            owner = self.tasks.get(str(params.get("task")))
            if owner is not None:
                owner.budget.hear(seat, params)
        elif method == "fault":
            self._on_fault(params)
        elif method == "log":
            for record in params.get("records", ()):
                self._events.emit("worker.log", worker=seat, record=record)

    def _on_report(self, seat: Seat, params: dict[str, Any]) -> None:
        if "traffic" in params:
            sent, received = params["traffic"]
            seat.process.bandwidth.reported(int(sent), int(received), self._clock.monotonic())
        for lease_id, counters in params.get("leases", {}).items():
            lease = self._leases.get(lease_id)
            if lease is not None:
                lease.unstarted = int(counters.get("unstarted", 0))
                lease.task.progress.report(lease_id, counters)
                lease.task.changed()
        for fingerprint, seen in params.get("accounts", {}).items():
            account = self.account(fingerprint)
            if seen["ok"]:
                self._credit_is_back(fingerprint)
            before = account.probing
            account.observe(seat.name, seen, self._clock.now(), self._clock.monotonic())
            if before and not account.probing:
                _log.info("the account %s has credit again", fingerprint)
        self.wake()

    def _on_lease_end(self, method: str, params: dict[str, Any]) -> None:
        lease = self._leases.pop(str(params.get("lease")), None)
        if lease is not None:
            outcome = "sealed" if method == "sealed" else str(params.get("reason", "released"))
            self._background.start(lease.task.supply.lease_ended(lease, outcome, params.get("counts")))
            if outcome == "no_plan":
                text = Text("internal error: {error}", {"error": "a worker cannot read the request plan"})
                self._background.start(lease.task.pause(Reason("bug", text)))
            self.wake()

    def _on_fault(self, params: dict[str, Any]) -> None:
        lease = self._leases.get(str(params.get("lease")))
        if lease is not None:
            code, text = params.get("errno"), str(params.get("text"))
            task = lease.task
            self._background.start(task.bug(text) if code is None else task.fault(int(code), text))

    def blocked(self, fingerprint: str, source: Task | None, code: str, text: Text) -> None:
        """The service refuses an account (`auth`, `credit`), or the model of `source`: tasks pause."""
        affected = [task for task in self.tasks.values() if task.account == fingerprint]
        account = self.account(fingerprint)
        if code == "auth":
            account.blocked = True
        if code == "credit":
            seconds = account.credit_gone(self._clock.monotonic())
            text = Text(
                "{text}; it is tried again in {seconds} s, and goes on by itself",
                {"text": text, "seconds": int(seconds)},
            )
        elif code == "model":
            affected = [task for task in affected if source is not None and task.model == source.model]
        for task in affected:
            if task.running:
                self._background.start(task.pause(Reason(code, text)))
        self.wake()

    def _probe_credit(self, now: float) -> None:
        for account in self.accounts.values():
            if account.probe_at is not None and now >= account.probe_at:
                account.start_probe()
                self._credit_is_back(account.fingerprint)

    def _credit_is_back(self, fingerprint: str) -> None:
        """Or may be: tasks that were paused for want of it go on."""
        for task in self._hooks.all_tasks():
            if task.account == fingerprint and task.rests_for("credit") and not task.going_on:
                self._background.start(self._hooks.go_on(task))


def task_lease(task: Task, lease: Lease, version: int) -> dict[str, Any]:
    """The LEASE message: which chunk, where, and under which plan."""
    return {
        "lease": lease.id,
        "task": task.uuid,
        "task_id": task.id,
        "chunk": lease.row.n,
        "task_dir": str(task.directory.path),
        "task_dir_id": list(task.directory.identity),
        "chunk_file": chunk_name(lease.row.n),
        "first_line": lease.row.first_line,
        "lines": lease.row.lines,
        "round": task.round,
        "plan_version": version,
        "fresh": lease.fresh,
    }
