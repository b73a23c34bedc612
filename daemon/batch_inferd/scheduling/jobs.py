"""Jobs: pieces of work that a worker does for a task as a whole, beside leases. One answer each."""

from __future__ import annotations

import asyncio
import errno
import uuid
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import ProtocolError
from batch_inferd.backends.batch.provider import error_from_wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_inferd.scheduling.seat import Seat
    from batch_inferd.tasks.task import Task

_PATIENCE_S = 30.0  # for a worker to give up a job that nobody wants any more


class JobLost(Exception):  # noqa: N818  said of the job
    """Its worker ended, or has not the task's plan: nothing is known of it, and it may be begun again."""


class FolderGone(Exception):  # noqa: N818
    """The task's folder was removed or replaced."""


class _Job:
    def __init__(self, task: Task, kind: str, params: dict[str, Any]) -> None:
        self.id = uuid.uuid4().hex[:12]
        self.task = task
        self.kind = kind
        self.params = params
        self.seat: Seat | None = None
        self.done: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.progress: Callable[[int, int], None] | None = None


class Jobs:
    """The jobs of all tasks. `wake` asks the dispatcher to give out what waits."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._jobs: dict[str, _Job] = {}

    @property
    def any(self) -> bool:
        """Whether some job wants a worker, or has one."""
        return bool(self._jobs)

    async def run(
        self,
        task: Task,
        kind: str,
        params: dict[str, Any],
        *,
        name: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, Any]:
        """The result of a job. Its id, which names its files, is `name` where one is given.

        Cancelled, it waits until its worker has left it. Raises JobLost, FolderGone, OSError (the disk),
        NotSent and ProviderErrors of its calls.
        """
        job = _Job(task, kind, params)
        job.id = name or job.id
        job.progress = progress
        self._jobs[job.id] = job
        self._wake()
        try:
            return await asyncio.shield(job.done)
        except asyncio.CancelledError:
            if job.seat is not None and not job.done.done():
                job.seat.send("cancel_job", {"job": job.id})
                await asyncio.wait([job.done], timeout=_PATIENCE_S)
            raise
        finally:
            self._jobs.pop(job.id, None)
            if job.done.done() and not job.done.cancelled():
                job.done.exception()  # seen: nobody else will ask

    def waiting(self) -> list[_Job]:
        """Those without a worker."""
        return [job for job in self._jobs.values() if job.seat is None and not job.done.done()]

    def give(self, job: _Job, seat: Seat, plan_version: int) -> None:
        """Send a job to a seat that knows the task's plan."""
        job.seat = seat
        task = job.task
        message = {
            "job": job.id,
            "kind": job.kind,
            "task": task.uuid,
            "task_id": task.id,
            "task_dir": str(task.directory.path),
            "task_dir_id": list(task.directory.identity),
            "plan_version": plan_version,
            "params": job.params,
        }
        try:
            seat.send("job", message)
        except ProtocolError as error:  # a bug; a job that was never sent would be waited for in vain
            job.done.set_exception(RuntimeError(f"a {job.kind} job cannot be sent: {error}"))

    def load(self, seat: Seat) -> int:
        """How many jobs a seat has."""
        return sum(job.seat is seat for job in self._jobs.values())

    def drop_waiting(self, task: Task) -> None:
        """Those of a task that have no worker yet are lost: nobody waits for them any more."""
        for job in self.waiting():
            if job.task is task:
                job.done.set_exception(JobLost(f"a {job.kind} job was given up"))

    def seat_gone(self, seat: Seat) -> None:
        """Its jobs are lost."""
        for job in self._jobs.values():
            if job.seat is seat and not job.done.done():
                job.done.set_exception(JobLost(f"the worker of a {job.kind} job ended"))

    def on_message(self, method: str, params: dict[str, Any]) -> None:
        """`job_done`, `job_failed` or `job_progress` of a worker."""
        job = self._jobs.get(str(params.get("job")))
        if job is None or job.done.done():
            return
        if method == "job_progress":
            if job.progress is not None:
                job.progress(int(params["done"]), int(params["total"]))
        elif method == "job_done":
            job.done.set_result(dict(params["result"]))
        else:
            job.done.set_exception(_error(job, params["failure"]))


def _error(job: _Job, failure: dict[str, Any]) -> Exception:
    text = str(failure.get("text"))
    match failure.get("kind"):
        case "provider":
            return error_from_wire(failure["error"])
        case "disk":
            return OSError(failure.get("errno") or errno.EIO, text)
        case "gone":
            return FolderGone(text)
        case "bug":
            return RuntimeError(f"a {job.kind} job failed: {text}")
        case "no_plan":
            return RuntimeError(f"a worker cannot read the plan of a {job.kind} job")
        case _:  # cancelled by a shutdown
            return JobLost(f"a {job.kind} job was given up: {failure.get('kind')}")
