"""All tasks of the workspace: found in chunks/, resumed at the start, watched while the daemon runs."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from batch_infer.protocol.errors import BatchInferError, TaskConflict, TaskNotFound
from batch_infer.protocol.text import Text
from batch_infer.protocol.workspace import check_task_id
from batch_inferd.store.taskdb import Damaged, disk_errno
from batch_inferd.tasks import folder, opening, states
from batch_inferd.tasks.states import Reason
from batch_inferd.testing.adopt import ensure_running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from batch_inferd.tasks.context import Context
    from batch_inferd.tasks.task import Task

_log = logging.getLogger(__name__)
_WATCH_S = 1.0
_SERVICE_S = 5.0


class Registry:
    """The tasks by id. `ready` is set once the start's recovery is over: requests wait for it."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.tasks: dict[str, Task] = {}
        self.damaged: dict[str, Damaged] = {}
        self.ready = asyncio.Event()
        self.creating: set[str] = set()  # folders that a submit is making: not to be opened by others
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._opening: dict[str, asyncio.Lock] = {}
        self._jobs: list[asyncio.Task[None]] = []

    # life

    async def recover(self) -> None:
        """Open every task of the workspace and go on with the unfinished ones. Never fails for one task."""
        for name in await asyncio.to_thread(self._names):
            await self._open(name)
        self.ready.set()
        self._jobs = [
            asyncio.create_task(self._repeat(_WATCH_S, self._watch), name="task-watcher"),
            asyncio.create_task(self._repeat(_SERVICE_S, self._keep_test_service), name="service-keeper"),
        ]
        resumed = sum(task.state in states.ACTIVE for task in self.tasks.values())
        _log.info("recovered %d tasks, %d of them go on", len(self.tasks), resumed)

    async def stop(self) -> None:
        """End all drivers and give all folders back; the tasks' states stay as they are stored."""
        for job in self._jobs:
            job.cancel()
        if self._jobs:
            await asyncio.wait(self._jobs)

        async def end(task: Task) -> None:
            await task.stop()
            await task.close()

        # Together: each may wait a moment for the answer to a create.
        ends = (end(task) for task in self.tasks.values())
        for error in await asyncio.gather(*ends, return_exceptions=True):
            if error is not None:
                _log.error("a task did not end in order", exc_info=error)

    def _names(self) -> list[str]:
        chunks = self.context.workspace.chunks
        with os.scandir(chunks) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith("."))

    async def _open(self, name: str) -> Task | None:
        """The task of that folder, opened if it is not yet; None where there is none that can be used."""
        async with self._opening.setdefault(name, asyncio.Lock()):
            try:
                if name in self.tasks or name in self.creating:
                    return self.tasks.get(name)
                task = await self._load(name)
                if task is not None:
                    self.tasks[name] = task
                    await self.settle(task)
                    await task.rest()
                return task
            finally:
                self._opening.pop(name, None)

    async def _load(self, name: str) -> Task | None:
        if not await asyncio.to_thread(folder.is_task, self.context.workspace.chunks / name):
            return None
        try:
            check_task_id(name)
            task = await opening.load(self.context, name)
        except Damaged as error:
            if name not in self.damaged:
                _log.error("task %s: its task.db cannot be used: %s (copy: %s)", name, error.why, error.copy)
            self.damaged[name] = error
            return None
        except (OSError, ValueError, KeyError, TypeError, sqlite3.Error, BatchInferError) as error:
            if name not in self.damaged:
                _log.exception("task %s cannot be opened", name)
            self.damaged[name] = Damaged(
                Text("it cannot be opened: {error}", {"error": f"{type(error).__name__}: {error}"}), None
            )
            return None
        self.damaged.pop(name, None)
        return task

    async def settle(self, task: Task) -> None:
        """Let a task that was just opened go on, or rest with the reason. Never raises."""
        try:
            await opening.recovered(task)
        except (OSError, sqlite3.Error) as error:
            await task.fault(disk_errno(error), str(error))
        except Exception as error:
            self.context.logs.exception(task.id, "a bug: the task cannot go on")
            await task.pause(Reason("bug", Text("internal error: {error}", {"error": repr(error)})))

    async def go_on(self, task: Task) -> None:
        """As `opening.go_on`, for what goes on by itself. Never raises."""
        try:
            await opening.go_on(task)
        except (OSError, sqlite3.Error, BatchInferError) as error:
            task.log(logging.WARNING, f"it cannot go on yet: {error}")

    async def _repeat(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self.context.clock.sleep(seconds)
            try:
                await work()
            except Exception:  # noqa: BLE001  the next round may do better
                _log.exception("watching the tasks failed")

    async def _watch(self) -> None:
        for task in list(self.tasks.values()):
            if not task.directory.still_there() or not task.has_database():
                await self.forget(task)
            elif await task.found_room() or (task.rests_for("service") and not task.going_on):
                await self.go_on(task)

    async def _keep_test_service(self) -> None:
        """The embedded service is ours: when a task needs it and it is gone, it is started again."""
        users = [task for task in self.tasks.values() if task.running and task.uses_test_service]
        if not users:
            return
        try:
            service = await ensure_running(self.context.workspace.test_service, self.context.clock)
        except BatchInferError as error:
            _log.warning("the test service could not be started: %s", error)
            return
        for task in users:
            await opening.follow_test_service(task, service)

    # finding

    def lock(self, task_id: str) -> asyncio.Lock:
        """Serialises what changes a task: two shells may ask for the same. Raises TaskIdError."""
        check_task_id(task_id)
        lock = self._locks.get(task_id)
        if lock is None:
            lock = self._locks[task_id] = asyncio.Lock()
        return lock

    async def find(self, task_id: str) -> Task:
        """The task of that id. Raises TaskIdError, TaskNotFound."""
        check_task_id(task_id)
        await self.ready.wait()
        task = self.tasks.get(task_id)
        if task is not None and not task.directory.still_there():
            await self.forget(task)
            task = None
        if task is None:
            task = await self._open(task_id)
        if task is None:
            damaged = self.damaged.get(task_id)
            if damaged is not None and folder.is_task(self.context.workspace.chunks / task_id):
                raise damaged_error(task_id, damaged)
            raise TaskNotFound(
                Text(
                    "there is no task {id} in {workspace}",
                    {"id": task_id, "workspace": str(self.context.workspace.root)},
                ),
                hints=(Text("batch_infer -list shows the tasks of a workspace"),),
            )
        return task

    async def find_or_none(self, task_id: str) -> Task | None:
        """As `find`, None where there is no such task."""
        try:
            return await self.find(task_id)
        except TaskNotFound:
            return None

    async def discover(self) -> None:
        """Notice folders that appeared or went since the last look."""
        await self.ready.wait()
        for task in list(self.tasks.values()):
            if not task.directory.still_there():
                await self.forget(task)
        for name in await asyncio.to_thread(self._names):
            if name not in self.tasks:
                await self._open(name)

    async def forget(self, task: Task) -> None:
        """The folder of a task is gone: so is the task."""
        if self.tasks.get(task.id) is task:
            del self.tasks[task.id]
        await task.forget()


def damaged_error(task_id: str, damaged: Damaged) -> BatchInferError:
    """The refusal of one task whose database cannot be used, with the way out."""
    hints = [Text("the answers in its journals are not lost; keep chunks/{id}", {"id": task_id})]
    if damaged.copy is not None:
        hints.append(Text("a copy of the database stands in {path}", {"path": str(damaged.copy)}))
    hints.append(
        Text(
            "restore chunks/{id}/task.db from a backup, "
            "or remove chunks/{id} and merged/{id} and submit again",
            {"id": task_id},
        )
    )
    return TaskConflict(
        Text("the state of task {id} cannot be used: {why}", {"id": task_id, "why": damaged.why}),
        hints=tuple(hints),
    )
