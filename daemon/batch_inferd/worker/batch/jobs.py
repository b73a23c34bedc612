"""Running the daemon's `job` messages: a few at a time, each to exactly one `job_done` or `job_failed`."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from batch_inferd.backends.batch.errors import ProviderError, error_to_wire
from batch_inferd.backends.transport import NotSent
from batch_inferd.worker.batch import messages, transfer
from batch_inferd.worker.batch.collect import Collector
from batch_inferd.worker.batch.context import JobCancelled, JobContext, NoPlan
from batch_inferd.worker.batch.pack import Packer
from batch_inferd.worker.batch.providers import Providers
from batch_inferd.worker.opening import FolderGone, open_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from batch_inferd.backends.batch.provider import BatchProvider
    from batch_inferd.backends.online import Prepared
    from batch_inferd.backends.plan import RequestPlan
    from batch_inferd.seams.clock import Clock
    from batch_inferd.seams.events import Events
    from batch_inferd.worker.batch.outcomes import Note
    from batch_inferd.worker.batch.providers import Make
    from batch_inferd.worker.guard import WriteGuard
    from batch_inferd.worker.report import Sender

_log = logging.getLogger(__name__)
_THREADS = 2  # packing and collecting jobs at a time: they take the processor from the calls
_TRANSFERS = 8
_PROGRESS_S = 0.25
_T = TypeVar("_T")


def make_provider(plan: RequestPlan, clock: Clock) -> BatchProvider:
    """The adapter that the plan asks for; imported now: a worker of online calls does without it."""
    from batch_inferd.backends.batch import registry  # noqa: PLC0415

    return registry.make_provider(plan, clock)


class _Running:
    """A job that has not ended. `begun`: it works, and does not merely wait for its turn."""

    def __init__(self, job: messages.Job) -> None:
        self.job = job
        self.begun = False
        self.stop = threading.Event()
        self._inner: asyncio.Task[Any] | None = None

    @property
    def in_thread(self) -> bool:
        """Whether a thread does it, which cannot be interrupted; it looks at `stop`."""
        return self.job.kind in ("pack", "collect")

    def cancel(self) -> None:
        """End it as soon as that is safe."""
        self.stop.set()
        if self._inner is not None:
            self._inner.cancel()

    async def interruptible(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Await what `cancel` may cut short. Raises JobCancelled then."""
        if self.stop.is_set():
            work.close()
            raise JobCancelled
        inner: asyncio.Task[_T] = asyncio.create_task(work)
        self._inner = inner
        try:
            return await inner
        except asyncio.CancelledError:
            if self.stop.is_set():
                raise JobCancelled from None
            raise
        finally:
            self._inner = None


class Jobs:
    """All jobs of a worker.

    `flush_log` sends what was logged: a job's failures are told before its end is. `changed` is called
    when a job has ended.
    """

    def __init__(
        self,
        outbox: Sender,
        guard: WriteGuard,
        clock: Clock,
        events: Events,
        prepared: Callable[[str], Prepared | None],
        flush_log: Callable[[], None],
        changed: Callable[[], None],
        make: Make = make_provider,
    ) -> None:
        self._outbox = outbox
        self._guard = guard
        self._clock = clock
        self._events = events
        self._prepared = prepared
        self._flush_log = flush_log
        self._changed = changed
        self._providers = Providers(make, clock)
        self._running: dict[str, _Running] = {}
        self._threads = asyncio.Semaphore(_THREADS)
        self._transfers = asyncio.Semaphore(_TRANSFERS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    @property
    def idle(self) -> bool:
        """Whether no job is left."""
        return not self._running

    # messages

    def on_job(self, params: dict[str, Any]) -> None:
        """Begin a job. One that cannot be read has failed."""
        name = str(params["job"])
        if name in self._running:
            _log.warning("the job %s is running already", name)
            return
        try:
            job = msgspec.convert(params, messages.Job)
        except msgspec.ValidationError as error:
            self._fail(name, "bug", f"the job cannot be read: {error}")
            return
        if self._stopping:
            self._fail(name, "cancelled", "the worker is stopping")
            return
        running = self._running[name] = _Running(job)
        self._spawn(self._run(running))

    def on_cancel(self, params: dict[str, Any]) -> None:
        """End a job early; one that is not known has just ended."""
        running = self._running.get(str(params["job"]))
        if running is not None:
            running.cancel()

    def on_forget(self, params: dict[str, Any]) -> None:
        """A task is over: what holds its secrets is dropped."""
        self._spawn(self._providers.forget(str(params["task"])))

    def stop(self, mode: str) -> None:
        """Take no job any more. With `drain`, what packs or collects is finished; all others end now."""
        self._stopping = True
        for running in tuple(self._running.values()):
            if mode == "abort" or not (running.in_thread and running.begun):
                running.cancel()

    async def close(self) -> None:
        """Give up all connections, once no job is left."""
        await self._providers.close()

    # running

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, running: _Running) -> None:
        job = running.job
        try:
            result = await self._take_turn(running)
            self._outbox.send("job_done", {"job": job.job, "result": result})
        except (JobCancelled, asyncio.CancelledError):
            self._fail(job.job, "cancelled", "the job was cancelled")
        except FolderGone:
            self._fail(job.job, "gone", "the task's folder is gone")
        except NoPlan:
            self._fail(job.job, "no_plan", "the worker has no plan for batches of this task")
        except (ProviderError, NotSent) as error:
            self._fail(job.job, "provider", str(error), error=error_to_wire(error))
        except OSError as error:
            text = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
            self._fail(job.job, "disk", text, error.errno)
        except Exception as error:  # noqa: BLE001  a bug must end in a pause that names it, not in a job that hangs
            _log.exception("a bug: job %s of task %s", job.job, job.task_id)
            self._fail(job.job, "bug", f"internal error: {error!r}")
        finally:
            del self._running[job.job]
            self._changed()

    def _fail(
        self,
        job: str,
        kind: str,
        text: str,
        number: int | None = None,
        error: dict[str, Any] | None = None,
    ) -> None:
        failure = {"kind": kind, "errno": number, "text": text, "error": error}
        self._outbox.send("job_failed", {"job": job, "failure": failure})

    async def _take_turn(self, running: _Running) -> dict[str, Any]:
        turns = self._threads if running.in_thread else self._transfers
        await running.interruptible(turns.acquire())
        try:
            running.begun = True
            return await self._open(running)
        finally:
            turns.release()

    async def _open(self, running: _Running) -> dict[str, Any]:
        job = running.job
        prepared = self._prepared(job.task)
        if prepared is None or prepared.plan.batch is None:
            raise NoPlan
        directory = await asyncio.to_thread(open_folder, job.task_dir, job.task_dir_id)
        try:
            async with self._providers.use(prepared) as provider:
                context = JobContext(
                    job.job, directory, prepared, provider, self._guard, self._clock, running.stop
                )
                result = await self._work(running, context)
            if not await asyncio.to_thread(directory.still_there):
                raise FolderGone
        except OSError as error:
            if not await asyncio.to_thread(directory.still_there):
                raise FolderGone from error
            raise
        finally:
            directory.close()
        return result

    async def _work(self, running: _Running, context: JobContext) -> dict[str, Any]:
        job, params = running.job, running.job.params
        if job.kind == "pack":
            packer = Packer(context, msgspec.convert(params, messages.PackParams))
            return await asyncio.to_thread(packer.run)
        if job.kind == "collect":
            wanted = msgspec.convert(params, messages.CollectParams)
            collector = Collector(context, wanted)
            result = await asyncio.to_thread(collector.run)
            self._log_failures(job, collector.counts.notes, wanted.max_retry)
            return result
        told = self._progress(job.job)
        if job.kind == "upload":
            sending = msgspec.convert(params, messages.UploadParams)
            return await transfer.upload(context, sending, running.interruptible, told)
        fetching = msgspec.convert(params, messages.DownloadParams)
        return await transfer.download(context, fetching, running.interruptible, told)

    def _progress(self, job: str) -> Callable[[int, int], None]:
        last = -_PROGRESS_S

        def progress(done: int, total: int) -> None:
            nonlocal last
            now = self._clock.monotonic()
            if now - last >= _PROGRESS_S:
                last = now
                self._outbox.send("job_progress", {"job": job, "done": done, "total": total})

        return progress

    def _log_failures(self, job: messages.Job, notes: Iterable[Note], allowed: int) -> None:
        """The first failures, for the task's log, in the words of online calls."""
        for note in notes:
            self._events.emit(
                "record.failed" if note.ended else "attempt.failed",
                task=job.task,
                task_id=job.task_id,
                chunk=note.chunk,
                line=note.line,
                attempt=note.attempt,
                cls=note.cls,
                message=note.message,
                wait=0.0,
                charged=note.charged,
                allowed=allowed,
            )
        self._flush_log()
