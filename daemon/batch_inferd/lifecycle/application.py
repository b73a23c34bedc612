"""What the process life needs of the application that it carries (`batch_inferd.app.App`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from batch_infer.protocol.workspace import Workspace
from batch_inferd.logs.tasklogs import TaskLogs
from batch_inferd.seams.clock import Clock
from batch_inferd.seams.events import Events

if TYPE_CHECKING:
    from batch_inferd.scheduling.worker_process import WorkerProcess
    from batch_inferd.server.peer import Handler


class Application(Protocol):
    """Made before the endpoint opens; then `start`, and at the end `drain` (if there is time) and `stop`."""

    async def start(self) -> None:
        """Recover the workspace's tasks. May be cancelled by the end of the daemon."""

    def take_worker(self, worker: WorkerProcess) -> None:
        """A worker that was started before the application was made; called before `start`."""

    async def drain(self) -> None:
        """Finish what costs money to break off, begin nothing new, persist."""

    async def stop(self) -> None:
        """End everything at once. Also called when `start` or `drain` failed."""

    @property
    def busy(self) -> bool:
        """Whether a task is unfinished."""

    @property
    def idle_exit_s(self) -> float | None:
        """Seconds of idleness after which the daemon ends; None: no opinion."""

    def handlers(self) -> Mapping[str, Handler]:
        """The requests that it answers, by name."""

    def status(self) -> dict[str, Any]:
        """What it adds to the answer of `daemon.status`."""


MakeApplication = Callable[[Workspace, Clock, Events, TaskLogs], Application]
