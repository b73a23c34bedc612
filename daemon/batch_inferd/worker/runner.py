"""Running one record: read it, build its request, call, and do what the failure table says."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from batch_inferd.backends import reply as replies
from batch_inferd.backends.body import InvalidLine, Request
from batch_inferd.failures import Action, Verdict
from batch_inferd.worker.waits import full_jitter

if TYPE_CHECKING:
    from batch_inferd.backends.online import OnlineBackend, Outcome, Prepared
    from batch_inferd.seams.clock import Clock
    from batch_inferd.seams.events import Events
    from batch_inferd.worker.chunk import LeasedChunk
    from batch_inferd.worker.gate import Gate
    from batch_inferd.worker.link import Link
    from batch_inferd.worker.queues import TaskQueue
    from batch_inferd.worker.record import Record

_log = logging.getLogger(__name__)

MAX_OUTAGES = 10  # failures of one record that are forgiven as an outage


@dataclass(slots=True)
class Attempt:
    """One record on its way through one attempt. `sent_at` is monotonic."""

    gate: Gate
    queue: TaskQueue
    record: Record
    prepared: Prepared
    link: Link
    sent_at: float
    custom_id: bytes = b""
    own_model: bool = False

    @property
    def chunk(self) -> LeasedChunk:
        """The record's chunk."""
        return self.record.chunk


class Hooks(Protocol):
    """What a runner asks of the worker."""

    def slot_free(self, record: Record) -> None:
        """A call is over: another one may begin."""

    def blocked(self, attempt: Attempt, outcome: Outcome) -> None:
        """The service refuses the account or the task."""

    def faulted(self, chunk: LeasedChunk, error: OSError) -> None:
        """The chunk's files cannot be read or written."""

    def settled(self, record: Record) -> None:
        """The record's outcome was recorded, or given up."""


class Runner:
    """Runs records through the online backend."""

    def __init__(self, backend: OnlineBackend, clock: Clock, events: Events, hooks: Hooks) -> None:
        self._backend = backend
        self._clock = clock
        self._events = events
        self._hooks = hooks

    async def run(self, gate: Gate, queue: TaskQueue, record: Record) -> None:
        """Take one record through one attempt. The caller has taken its slot at the gate."""
        attempt = Attempt(gate, queue, record, queue.prepared, queue.link, self._clock.monotonic())
        try:
            outcome = await self._call(attempt)
            if outcome is not None:
                await self._follow(attempt, outcome)
        except OSError as error:
            self._not_recorded(record, error)
        except Exception as error:  # noqa: BLE001  a bug must end in a pause that names it, not in a lost record
            _log.exception("a bug: line %d of task %s", record.line, record.chunk.lease.task_id)
            self._not_recorded(record, OSError(None, f"internal error: {error!r}"))
        finally:
            self._hooks.settled(record)

    def _not_recorded(self, record: Record, error: OSError) -> None:
        """Whatever came of the record does not count: the next lease does it again."""
        if not record.waiting:
            record.chunk.returned(record)
        self._hooks.faulted(record.chunk, error)

    async def _call(self, attempt: Attempt) -> Outcome | None:
        """The outcome of the call; None when the record is settled without one."""
        record, chunk = attempt.record, attempt.chunk
        try:
            if chunk.given_up:
                chunk.returned(record)
                return None
            request = _build(record, attempt.prepared)
            if isinstance(request, Request):
                attempt.custom_id, attempt.own_model = request.custom_id, request.own_model
                record.attempts += 1
                with chunk.cancellable():
                    return await self._backend.call(attempt.prepared, request)
        except asyncio.CancelledError:
            self._cancelled(record)
            return None
        finally:
            attempt.gate.returned()
            self._hooks.slot_free(record)
        attempt.custom_id = request.custom_id
        await self._end(attempt, Verdict(Action.END, "invalid_input", str(request)), None)
        return None

    async def _follow(self, attempt: Attempt, outcome: Outcome) -> None:
        gate, verdict = attempt.gate, outcome.verdict
        if outcome.reply is not None:
            gate.seen.quota.update(replies.quota(outcome.reply.headers))
        if verdict.action is Action.NETWORK:
            self._not_sent(attempt, outcome)
            return
        attempt.link.came_through()
        if verdict.action is Action.ANSWER:
            await self._answered(attempt, outcome)
        elif verdict.action is Action.THROTTLE:
            await self._throttled(attempt, outcome)
        else:
            gate.seen.failed += 1
            if verdict.action is Action.RETRY:
                await self._sent_failed(attempt, outcome)
            elif verdict.action is Action.BLOCK and not (verdict.cls == "model" and attempt.own_model):
                self._hooks.blocked(attempt, outcome)
                self._try_again(attempt, outcome, 0.0, free=True)
            else:
                await self._end(attempt, verdict, outcome)

    async def _answered(self, attempt: Attempt, outcome: Outcome) -> None:
        record = attempt.record
        try:
            await attempt.chunk.answer(record, attempt.prepared, attempt.custom_id, outcome)
        except OSError as error:
            self._tell("answer.lost", record, error=str(error))
            raise
        attempt.gate.answered(attempt.record)
        self._tell("record.answered", record, ms=outcome.ms, finish_reason=outcome.verdict.finish_reason)

    async def _end(self, attempt: Attempt, verdict: Verdict, outcome: Outcome | None) -> None:
        await attempt.chunk.fail(attempt.record, attempt.prepared, attempt.custom_id, verdict, outcome)
        self._tell("record.failed", attempt.record, cls=verdict.cls, message=verdict.message)

    async def _throttled(self, attempt: Attempt, outcome: Outcome) -> None:
        gate, verdict = attempt.gate, outcome.verdict
        wait = gate.throttled(attempt.prepared.plan.retry, verdict.retry_after, attempt.sent_at)
        if gate.strikes.throttled(attempt.record, alone=gate.in_flight == 0):
            await self._end(attempt, verdict, outcome)
        else:
            self._try_again(attempt, outcome, wait, free=True)

    def _not_sent(self, attempt: Attempt, outcome: Outcome) -> None:
        """Nothing left this machine: the attempt did not happen, and the account waits."""
        record = attempt.record
        self._tell("attempt.not_sent", record, cls=outcome.verdict.cls, message=outcome.verdict.message)
        record.attempts -= 1
        record.chunk.returned(record)
        if outcome.network is not None:
            attempt.link.lost(outcome.network, attempt.prepared)
        attempt.queue.put_back(record)

    async def _sent_failed(self, attempt: Attempt, outcome: Outcome) -> None:
        """It may have been billed: a retry is used up, unless the service has gone away altogether."""
        record, chunk, retry = attempt.record, attempt.chunk, attempt.prepared.plan.retry
        chunk.returned(record)
        try:
            with chunk.cancellable():
                connects = await attempt.link.still_connects(attempt.prepared)
        except asyncio.CancelledError:
            self._cancelled(record)
            return
        if not connects and record.outages < MAX_OUTAGES:
            record.outages += 1
            self._try_again(attempt, outcome, 0.0, free=True)
            return
        record.charged += 1
        if record.charged > retry.max_count:
            await self._end(attempt, outcome.verdict, outcome)
        else:
            self._try_again(attempt, outcome, full_jitter(retry, record.charged), free=False)

    def _try_again(self, attempt: Attempt, outcome: Outcome, wait: float, *, free: bool) -> None:
        """Journal the failed attempt; then it waits its backoff, or goes first in line when it was free."""
        record, chunk = attempt.record, attempt.chunk
        if not record.waiting:
            chunk.returned(record)
        status = None if outcome.reply is None else outcome.reply.status
        chunk.attempt_failed(record, outcome.verdict, status, wait, charged=not free)
        if free:
            attempt.queue.put_back(record)
        else:
            attempt.queue.delay(record, self._clock.monotonic() + wait)
        self._tell(
            "attempt.failed",
            record,
            cls=outcome.verdict.cls,
            message=outcome.verdict.message,
            wait=wait,
            charged=0 if free else record.charged,
            allowed=attempt.prepared.plan.retry.max_count,
        )

    def _cancelled(self, record: Record) -> None:
        """Given up in flight. Whether the service did it, and bills it, nobody knows."""
        chunk = record.chunk
        if not record.waiting:
            chunk.returned(record)
        if chunk.ending == "aborted":
            verdict = Verdict(Action.RETRY, "cancelled", "given up in flight")
            chunk.attempt_failed(record, verdict, None, 0.0, charged=False)
        self._tell("attempt.cancelled", record)

    def _tell(self, name: str, record: Record, **fields: object) -> None:
        lease = record.chunk.lease
        self._events.emit(
            name,
            task=lease.task,
            task_id=lease.task_id,
            chunk=lease.chunk,
            line=record.line,
            attempt=record.attempts,
            **fields,
        )


def _build(record: Record, prepared: Prepared) -> Request | InvalidLine:
    """The record's request, or what is wrong with its line. Raises OSError."""
    limit = prepared.plan.max_line_bytes
    if record.length > limit:
        message = f"the line has {record.length} bytes, allowed are {limit}"
        return InvalidLine(message, b'"%d"' % record.line)
    try:
        return prepared.builder.build(record.chunk.read(record), record.line)
    except InvalidLine as error:
        return error
