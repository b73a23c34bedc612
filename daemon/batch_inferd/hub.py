"""Pushes progress to whoever subscribed: the newest summary of each changed task, four times a second."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from batch_infer.protocol import rpc
from batch_inferd.tasks.summary import summary

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_inferd.seams.clock import Clock
    from batch_inferd.seams.events import Events
    from batch_inferd.server.peer import Peer
    from batch_inferd.tasks.task import Task

_log = logging.getLogger(__name__)
_INTERVAL_S = 0.25
_REFRESH_S = 1.0  # rates and machine figures move without an event


class Hub:
    """Subscribers and what they have not seen yet. A task that is gone is pushed as `{"gone": true}`."""

    def __init__(
        self,
        clock: Clock,
        events: Events,
        tasks: Callable[[], list[Task]],
        machine: Callable[[], dict[str, Any]],
    ) -> None:
        self._clock = clock
        self._tasks = tasks
        self._machine = machine
        self._subscribers: dict[Peer, frozenset[str] | None] = {}
        self._dirty: dict[str, Task] = {}
        self._job: asyncio.Task[None] | None = None
        events.subscribe(self._on_event)

    def start(self) -> None:
        """Run the pushing loop."""
        self._job = asyncio.create_task(self._run(), name="hub")

    async def stop(self) -> None:
        """Push what is left, then end."""
        if self._job is not None:
            self._job.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._job
        self._push()

    def subscribe(self, peer: Peer, tasks: list[str] | None) -> None:
        """Push to `peer` from now on: some tasks, or all (None)."""
        known = peer in self._subscribers
        self._subscribers[peer] = None if tasks is None else frozenset(tasks)
        if not known:
            peer.on_close(lambda: self._forget(peer))  # at once, if it has closed meanwhile

    def _forget(self, peer: Peer) -> None:
        self._subscribers.pop(peer, None)

    def _on_event(self, name: str, fields: dict[str, Any]) -> None:
        if name == "task.changed":
            task: Task = fields["task"]
            self._dirty[task.id] = task

    async def _run(self) -> None:
        refreshed = 0.0
        while True:
            await self._clock.sleep(_INTERVAL_S)
            try:
                refreshed = self._round(refreshed)
            except Exception:  # noqa: BLE001  the next round may do better
                _log.exception("progress could not be pushed")

    def _round(self, refreshed: float) -> float:
        now = self._clock.monotonic()
        active = [task for task in self._tasks() if task.running]
        for task in active:
            task.progress.sample(now)
        if now - refreshed >= _REFRESH_S:
            refreshed = now
            self._dirty.update({task.id: task for task in active})
        self._push()
        return refreshed

    def _push(self) -> None:
        dirty, self._dirty = self._dirty, {}
        if not dirty or not self._subscribers:
            return
        summaries = {
            name: {"task_id": name, "gone": True} if task.forgotten else summary(task)
            for name, task in dirty.items()
        }
        machine = self._machine()
        for peer, wanted in list(self._subscribers.items()):
            mine = [value for name, value in summaries.items() if wanted is None or name in wanted]
            for value in mine:
                # One key a task: a peer that reads slowly gets the newest state of each, never a backlog.
                message = rpc.notification(rpc.PROGRESS, {"tasks": [value], "daemon": machine})
                peer.push(f"progress:{value['task_id']}", message)
