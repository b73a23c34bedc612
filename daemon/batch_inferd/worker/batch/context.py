"""What every job has at hand, and the two ways in which it ends without a fault."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading

    from batch_inferd.backends.batch.provider import BatchProvider
    from batch_inferd.backends.online import Prepared
    from batch_inferd.backends.plan import RequestPlan
    from batch_inferd.seams.clock import Clock
    from batch_inferd.seams.files import Directory
    from batch_inferd.worker.guard import WriteGuard


class JobCancelled(Exception):  # noqa: N818  it was asked for
    """The daemon took the job back, or the worker is stopping."""


class NoPlan(Exception):  # noqa: N818  it is a state of the world
    """The worker has no plan of the task, or one without batches."""


@dataclass(frozen=True, slots=True)
class JobContext:
    """A job's task and tools. `stop` is set when it shall end early."""

    job: str
    directory: Directory
    prepared: Prepared
    provider: BatchProvider
    guard: WriteGuard
    clock: Clock
    stop: threading.Event

    @property
    def plan(self) -> RequestPlan:
        """The task's plan."""
        return self.prepared.plan

    def check(self) -> None:
        """Raises JobCancelled once the job shall end."""
        if self.stop.is_set():
            raise JobCancelled
