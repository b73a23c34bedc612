"""All tasks of the workspace: found in chunks/, resumed at the start, watched while the daemon runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
from typing import TYPE_CHECKING

from batch_infer.protocol.errors import BatchInferError, TaskConflict, TaskNotFound
from batch_infer.protocol.text import Text
from batch_infer.protocol.workspace import check_task_id
from batch_inferd.store.taskdb import Damaged
from batch_inferd.tasks import folder, opening, states

if TYPE_CHECKING:
    from batch_inferd.tasks.context import Context
    from batch_inferd.tasks.task import Task

_log = logging.getLogger(__name__)
_WATCH_S = 1.0
_SERVICE_CHECK_S = 5.0


class Registry:
    """The tasks by id. `ready` is set once the start's recovery is over: requests wait for it."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.tasks: dict[str, Task] = {}
        self.damaged: dict[str, Damaged] = {}
        self.ready = asyncio.Event()
        self._locks: dict[str, asyncio.Lock] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._service_check = 0.0

    # life

    async def recover(self) -> None:
        """Open every task of the workspace and go on with the unfinished ones."""
        names = await asyncio.to_thread(self._names)
        for name in names:
            await self._open(name)
        for task in list(self.tasks.values()):
            if task.state in states.ACTIVE:
                await opening.activate(task)
        self.ready.set()
        self._watcher = asyncio.create_task(self._watch(), name="task-watcher")
        resumed = sum(task.state in states.ACTIVE for task in self.tasks.values())
        _log.info("recovered %d tasks, %d of them go on", len(self.tasks), resumed)

    async def stop(self) -> None:
        """End all drivers and give all folders back; the tasks' states stay as they are stored."""
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        for task in list(self.tasks.values()):
            await task.stop()
            await task.close()

    def _names(self) -> list[str]:
        chunks = self.context.workspace.chunks
        with os.scandir(chunks) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith("."))

    async def _open(self, name: str) -> Task | None:
        path = self.context.workspace.chunks / name
        if name in self.tasks or not folder.is_task(path):
            return self.tasks.get(name)
        try:
            check_task_id(name)
            task = await opening.load(self.context, name)
        except Damaged as error:
            if name not in self.damaged:
                _log.error("task %s: its task.db cannot be used: %s (copy: %s)", name, error.why, error.copy)
            self.damaged[name] = error
            return None
        except (OSError, ValueError, KeyError, TypeError, sqlite3.Error, BatchInferError) as error:
            _log.exception("task %s cannot be opened", name)
            self.damaged[name] = Damaged(f"{type(error).__name__}: {error}", None)
            return None
        self.damaged.pop(name, None)
        self.tasks[name] = task
        return task

    async def _watch(self) -> None:
        clock = self.context.clock
        while True:
            await clock.sleep(_WATCH_S)
            for task in list(self.tasks.values()):
                try:
                    if not task.directory.still_there() or not task.has_database():
                        await self.forget(task)
                        continue
                    await task.look_for_room()
                except Exception:  # noqa: BLE001  one task must not end the watch
                    _log.exception("watching task %s failed", task.id)
            if clock.monotonic() >= self._service_check:
                self._service_check = clock.monotonic() + _SERVICE_CHECK_S
                await self._keep_test_service()

    async def _keep_test_service(self) -> None:
        """The embedded service is ours: when a task needs it and it is gone, it is started again."""
        for task in list(self.tasks.values()):
            if task.running and task.uses_test_service:
                try:
                    await opening.refresh_test_service(task)
                except (OSError, TimeoutError, BatchInferError) as error:
                    _log.warning("the test service could not be started: %s", error)

    # finding

    def lock(self, task_id: str) -> asyncio.Lock:
        """Serialises what changes a task: two shells may ask for the same."""
        return self._locks.setdefault(task_id, asyncio.Lock())

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
