"""The worker: takes plans, leases, jobs and the daemon's word on accounts; seals and gives back chunks."""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import TYPE_CHECKING, Any

import msgspec

from batch_inferd import failures
from batch_inferd.backends.online import OnlineBackend, Outcome, Prepared
from batch_inferd.backends.plan import RequestPlan
from batch_inferd.worker import closing
from batch_inferd.worker.accounts import Accounts
from batch_inferd.worker.batch.jobs import Jobs
from batch_inferd.worker.bug import Bug
from batch_inferd.worker.chunk import LeasedChunk
from batch_inferd.worker.logs import LOGGED, LogSubscriber
from batch_inferd.worker.opening import FolderGone, open_lease
from batch_inferd.worker.pump import Pump
from batch_inferd.worker.record import Lease, Record
from batch_inferd.worker.report import INTERVAL_S, LogBuffer, Reporter, Sender
from batch_inferd.worker.runner import Attempt, Runner

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from batch_infer.protocol.text import Text
    from batch_inferd.backends.transport import HttpTransport
    from batch_inferd.seams.clock import Clock
    from batch_inferd.seams.events import Events
    from batch_inferd.worker.guard import WriteGuard

_log = logging.getLogger(__name__)
SYNC_INTERVAL_S = 0.5  # between two grouped syncs: what an answer may wait for the disk stays under 1 s


class Worker:
    """All state of one worker process. Everything runs in one event loop; `handle` is the way in."""

    def __init__(
        self, outbox: Sender, guard: WriteGuard, clock: Clock, transport: HttpTransport, events: Events
    ) -> None:
        self._outbox = outbox
        self._guard = guard
        self._clock = clock
        self._events = events
        log = LogBuffer(clock)
        events.subscribe(LogSubscriber(log), LOGGED)
        self._reporter = Reporter(outbox, log)
        self._runner = Runner(OnlineBackend(transport, clock), clock, events, self)
        self._accounts = Accounts(transport, clock, events, self.wake, outbox.send)
        self._pump = Pump(clock, self._accounts.gates, self._runner.run)
        self._chunks: dict[str, LeasedChunk] = {}
        self._opening: dict[str, str | None] = {}  # lease -> how it was ended before it was open
        self._batch = Jobs(
            outbox,
            guard,
            clock,
            events,
            self._accounts.prepared,
            self._reporter.flush_log,
            self._check_stopped,
        )
        self._stopping: str | None = None
        self._stopped = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    # life

    async def run(self) -> None:
        """Return once a shutdown was asked for and all leases are given back."""
        ticks = [asyncio.create_task(tick(), name=tick.__name__) for tick in (self._report, self._sync)]
        try:
            await self._stopped.wait()
        finally:
            for task in ticks:
                task.cancel()
            self._pump.stop()
            self._runner.close()
            self._accounts.close()
            await self._batch.close()
        self._reporter.flush(self._accounts.gates(), force=True)

    def handle(self, method: str, params: dict[str, Any]) -> None:
        """A message of the daemon. One that cannot be read is logged; the others go on."""
        handlers = {
            "plan": self._on_plan,
            "lease": self._on_lease,
            "account": self._accounts.on_account,
            "grant": self._accounts.on_grant,
            "end_lease": self._on_end_lease,
            "job": self._batch.on_job,
            "cancel_job": self._batch.on_cancel,
            "forget": self._on_forget,
            "shutdown": self._on_shutdown,
        }
        handler = handlers.get(method)
        if handler is None:
            _log.warning("a message of an unknown kind: %s", method)
            return
        try:
            handler(params)
        except (msgspec.ValidationError, KeyError, TypeError, ValueError) as error:
            # Without the details: its parameters may be secret.
            _log.error("a %s message of the daemon cannot be read: %s", method, type(error).__name__)

    def wake(self) -> None:
        """Something changed that may let calls start."""
        self._pump.wake()

    async def _report(self) -> None:
        while True:
            await self._clock.sleep(INTERVAL_S)
            try:
                self._reporter.flush(self._accounts.gates())
            except Exception:  # noqa: BLE001  a daemon that hears nothing would wait for ever
                _log.exception("a bug in a report; the next one follows")

    async def _sync(self) -> None:
        while True:
            await self._clock.sleep(SYNC_INTERVAL_S)
            chunks = [chunk for chunk in self._chunks.values() if chunk.journal.needs_sync]
            try:
                await asyncio.gather(*(self._sync_one(chunk) for chunk in chunks))
            except Exception:  # noqa: BLE001  the other journals must be synced all the same
                _log.exception("a bug in a sync; the next one follows")

    async def _sync_one(self, chunk: LeasedChunk) -> None:
        try:
            await chunk.journal.sync()
        except OSError as error:
            if not chunk.closed:
                self.faulted(chunk, error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("a bug in the worker", exc_info=task.exception())

    # messages

    def _on_plan(self, params: dict[str, Any]) -> None:
        self._accounts.set_plan(Prepared(msgspec.convert(params["plan"], RequestPlan)))

    def _on_lease(self, params: dict[str, Any]) -> None:
        lease = msgspec.convert(params, Lease)
        prepared = self._accounts.prepared(lease.task)
        if self._stopping or prepared is None:
            self._release_unopened(lease, "drained" if self._stopping else "no_plan")
            return
        self._opening[lease.lease] = None
        self._spawn(self._open(lease, prepared))

    def _on_end_lease(self, params: dict[str, Any]) -> None:
        lease, mode = str(params["lease"]), str(params["mode"])
        if lease in self._opening:
            self._opening[lease] = mode
        elif (chunk := self._chunks.get(lease)) is not None:
            self._end(chunk, mode)

    def _on_forget(self, params: dict[str, Any]) -> None:
        self._accounts.on_forget(params)
        self._batch.on_forget(params)

    def _on_shutdown(self, params: dict[str, Any]) -> None:
        self._shutdown(str(params["mode"]))

    def terminate(self, mode: str) -> None:
        """As the daemon's `shutdown`, but it did not ask: it is told first, to give no lease any more."""
        if self._stopping is None:
            self._outbox.send("stopping", {})
        self._shutdown(mode)

    def _shutdown(self, mode: str) -> None:
        """End all leases (`drain`: calls in flight may finish), then `run` returns."""
        self._stopping = mode
        for lease in self._opening:
            self._opening[lease] = mode
        for chunk in tuple(self._chunks.values()):
            self._end(chunk, mode)
        self._batch.stop(mode)
        self._check_stopped()

    # leases

    async def _open(self, lease: Lease, prepared: Prepared) -> None:
        try:
            opened = await asyncio.to_thread(open_lease, lease)
        except FolderGone:
            self._release_unopened(lease, "gone")
            return
        except OSError as error:
            self._send_fault(lease, error)
            self._release_unopened(lease, "fault")
            return
        except Exception as error:  # noqa: BLE001  a bug must end in a pause that names it, not in a lease that hangs
            _log.exception("a bug: chunk %d of task %s", lease.chunk, lease.task_id)
            self._send_fault(lease, Bug(error))
            self._release_unopened(lease, "fault")
            return
        chunk = LeasedChunk(lease, opened, prepared, self._clock, self._guard)
        self._chunks[lease.lease] = chunk
        mode = self._opening.pop(lease.lease)
        self._tell(chunk, "lease.opened", f"{chunk.counts.open} of {chunk.counts.input} records are open")
        self._accounts.add(chunk, prepared)
        if mode is not None:
            self._end(chunk, mode)
        self._reporter.changed(chunk)
        self._finish_if_over(chunk)
        self.wake()

    def _release_unopened(self, lease: Lease, reason: str) -> None:
        self._opening.pop(lease.lease, None)
        self._outbox.send("released", {"lease": lease.lease, "counts": None, "reason": reason})
        self._check_stopped()

    def _end(self, chunk: LeasedChunk, mode: str) -> None:
        chunk.end("aborted" if mode == "abort" else "drained")
        if mode == "abort":
            chunk.cancel_calls()
        self._finish_if_over(chunk)

    def _finish_if_over(self, chunk: LeasedChunk) -> None:
        """Seal or give back a chunk that has nothing under way, once."""
        if chunk.active or chunk.closed or (chunk.counts.open and chunk.sending):
            return
        chunk.closed = True
        self._spawn(self._finish(chunk))

    async def _finish(self, chunk: LeasedChunk) -> None:
        lease = chunk.lease.lease
        end = await closing.close_chunk(chunk)
        if end.fault is not None:
            self._send_fault(chunk.lease, end.fault)
        self._reporter.forget(chunk)
        self._accounts.remove(chunk)
        del self._chunks[lease]
        counts = chunk.counts.to_json()
        self._tell(chunk, f"lease.{'released' if end.reason else 'sealed'}", end.reason or chunk.journal.name)
        self._reporter.flush_log()
        if end.reason is None:
            message = {
                "lease": lease,
                "counts": counts,
                "journal": chunk.journal.name,
                "bytes": chunk.journal.size,
            }
            self._outbox.send("sealed", message)
        else:
            self._outbox.send("released", {"lease": lease, "counts": counts, "reason": end.reason})
        self._check_stopped()

    def _send_fault(self, lease: Lease, error: OSError) -> None:
        text = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
        code = None if isinstance(error, Bug) else error.errno or errno.EIO
        self._outbox.send("fault", {"lease": lease.lease, "errno": code, "text": text})
        self._events.emit(
            "lease.faulted", task=lease.task, task_id=lease.task_id, chunk=lease.chunk, error=text
        )

    def _check_stopped(self) -> None:
        if self._stopping and not self._chunks and not self._opening and self._batch.idle:
            self._stopped.set()

    def _tell(self, chunk: LeasedChunk, name: str, detail: str) -> None:
        lease = chunk.lease
        self._events.emit(
            name, task=lease.task, task_id=lease.task_id, chunk=lease.chunk, lease=lease.lease, detail=detail
        )

    # what the runner asks for

    def settled(self, record: Record) -> None:
        """See `Hooks`."""
        chunk = record.chunk
        chunk.active -= 1
        self._reporter.changed(chunk)
        if not chunk.active:
            self._finish_if_over(chunk)

    def faulted(self, chunk: LeasedChunk, error: OSError) -> None:
        """See `Hooks`. Told once a lease; what is in flight is given up, as it could not be recorded."""
        if chunk.ending == "fault":
            return
        chunk.end("fault")
        self._send_fault(chunk.lease, error)
        chunk.cancel_calls()
        self._finish_if_over(chunk)

    def blocked(self, attempt: Attempt, outcome: Outcome) -> None:
        """See `Hooks`. Told once, until the daemon speaks."""
        verdict, lease = outcome.verdict, attempt.chunk.lease
        if not self._accounts.block(attempt, verdict.cls):
            return
        text: Text = failures.blocked_text(verdict)
        self._outbox.send(
            "blocked",
            {
                "account": attempt.gate.fingerprint,
                "task": lease.task,
                "lease": lease.lease,
                "code": verdict.cls,
                "text": text.to_wire(),
                "status": outcome.reply.status if outcome.reply is not None else None,
                "retry_after": verdict.retry_after,
            },
        )
        self._events.emit(
            "account.blocked",
            task=lease.task,
            task_id=lease.task_id,
            code=verdict.cls,
            message=verdict.message,
        )
