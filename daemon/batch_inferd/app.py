"""The application inside the daemon process: all parts, put together, started and ended in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import TYPE_CHECKING, Any

import psutil

from batch_inferd.batches.upstream import Upstreams
from batch_inferd.hub import Hub
from batch_inferd.requests import handlers
from batch_inferd.scheduling.dispatcher import Dispatcher
from batch_inferd.scheduling.orphans import end_orphans
from batch_inferd.services.credentials import CredentialStore
from batch_inferd.store.writer import StoreWriter
from batch_inferd.tasks import states
from batch_inferd.tasks.context import Context
from batch_inferd.tasks.folder import make_data_folders
from batch_inferd.tasks.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_infer.protocol.workspace import Workspace
    from batch_inferd.logs.tasklogs import TaskLogs
    from batch_inferd.scheduling.worker_process import WorkerProcess
    from batch_inferd.seams.clock import Clock
    from batch_inferd.seams.events import Events
    from batch_inferd.server.peer import Handler
    from batch_inferd.tasks.task import Task

_log = logging.getLogger(__name__)
_DRAIN_S = 15.0


class App:
    """What `main` runs. `start` recovers the tasks; `drain` lets calls in flight finish; `stop` ends all."""

    def __init__(self, workspace: Workspace, clock: Clock, events: Events, logs: TaskLogs) -> None:
        self._workspace = workspace
        self._clock = clock
        self._store = StoreWriter()
        self.draining = False  # nothing new begins
        self.stopping = False  # no request is answered any more
        self.restart_wanted = False  # the program was replaced: a newer daemon should take over
        self._self = psutil.Process()
        self._seen: dict[int, psutil.Process] = {}
        self.dispatcher = Dispatcher(workspace.workers, clock, events, self)
        self.context = Context(
            workspace=workspace,
            clock=clock,
            events=events,
            store=self._store,
            credentials=CredentialStore(),
            logs=logs,
            dispatcher=self.dispatcher,
            upstreams=Upstreams(clock),
        )
        self.registry = Registry(self.context)
        self.hub = Hub(clock, events, lambda: list(self.registry.tasks.values()), self.machine)
        events.subscribe(self._on_event)

    # what the dispatcher asks for

    def all_tasks(self) -> Iterable[Task]:
        """See scheduling.dispatcher.Hooks."""
        return tuple(self.registry.tasks.values())

    async def go_on(self, task: Task) -> None:
        """See scheduling.dispatcher.Hooks."""
        await self.registry.go_on(task)

    async def gone(self, task: Task) -> None:
        """See scheduling.dispatcher.Hooks."""
        await self.registry.forget(task)

    # life

    async def start(self) -> None:
        """Recover: earlier workers end, folders are made, unfinished tasks go on."""
        await asyncio.to_thread(make_data_folders, self._workspace)
        ours = {process.name for process in self.dispatcher.pool.processes}
        await asyncio.to_thread(end_orphans, self._workspace.workers, ours=ours)
        self.dispatcher.start()
        self.hub.start()
        await self.registry.recover()

    def take_worker(self, worker: WorkerProcess) -> None:
        """See `Application.take_worker`."""
        self.dispatcher.pool.take(worker)

    async def drain(self) -> None:
        """Begin nothing new; let calls in flight finish, bounded, and keep what they bring."""
        self.draining = True
        await self.dispatcher.stop("drain", _DRAIN_S)

    async def stop(self) -> None:
        """End everything; what is unfinished goes on with the next daemon."""
        self.stopping = True
        await self.dispatcher.stop("abort", 2.0)
        await self.registry.stop()
        self.context.upstreams.close()
        await self.hub.stop()
        await asyncio.to_thread(self._store.close)

    @property
    def busy(self) -> bool:
        """Whether a task is unfinished: such a daemon does not end for idleness, and is not replaced."""
        if not self.registry.ready.is_set():
            return True
        return any(task.state not in states.ENDED for task in self.registry.tasks.values())

    @property
    def idle_exit_s(self) -> float | None:
        """Idle seconds after which the daemon may end: the longest that any task asks for."""
        asked = [float(task.config["config"]["daemon"]["idle_exit"]) for task in self.registry.tasks.values()]
        return max(asked, default=None)

    def handlers(self) -> dict[str, Handler]:
        """The requests it answers."""
        return handlers(self)

    def status(self) -> dict[str, Any]:
        """Its part of `daemon.status`."""
        by_state: dict[str, int] = {}
        for task in self.registry.tasks.values():
            by_state[task.state] = by_state.get(task.state, 0) + 1
        return {"busy": self.busy, "tasks": by_state} | self.machine()

    def machine(self) -> dict[str, Any]:
        """CPU (percent of one core since the last look) and memory (bytes) of daemon and workers.

        Of workers also what they send and receive, in bytes a second of late.
        """
        workers = []
        now = self._clock.monotonic()
        for worker in self.dispatcher.pool.processes:
            try:
                process = self._seen.get(worker.pid) or psutil.Process(worker.pid)
                self._seen[worker.pid] = process
                used = {"cpu": process.cpu_percent(), "rss": process.memory_info().rss}
                sent, received = worker.bandwidth.rates(now)
                used |= {"sent_per_s": round(sent), "received_per_s": round(received)}
                workers.append({"pid": worker.pid, "seats": len(worker.seats), **used})
            except psutil.Error:
                self._seen.pop(worker.pid, None)
        return {
            "pid": os.getpid(),
            "cpu": self._self.cpu_percent(),
            "rss": self._self.memory_info().rss,
            "workers": workers,
        }

    def _on_event(self, name: str, fields: dict[str, Any]) -> None:
        if name == "program.replaced" and not self.restart_wanted:
            self.restart_wanted = True
            _log.warning("build %s is on the disk: this daemon ends and starts again", fields["build"])
            os.kill(os.getpid(), signal.SIGTERM)  # the polite way out: drain, persist
        if name == "worker.log":
            record, worker = fields["record"], fields["worker"]
            self.context.logs.log(
                str(record.get("task")),
                int(record.get("level", 20)),
                record.get("chunk"),
                str(record.get("message")),
                process=f"worker[{worker.pid}]",
                thread=record.get("thread"),
            )
