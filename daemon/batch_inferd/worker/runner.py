"""Running one record: read it, build its request, call, and do what the failure table says."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

import msgspec

from batch_inferd.backends.body import InvalidLine, Request
from batch_inferd.backends.online import Outcome
from batch_inferd.failures import Action, Verdict
from batch_inferd.images.errors import ImageError
from batch_inferd.money.budget import Unbounded, bounded
from batch_inferd.worker.answers import HeldAnswer
from batch_inferd.worker.bug import Bug
from batch_inferd.worker.images import Images
from batch_inferd.worker.waits import full_jitter

if TYPE_CHECKING:
    from batch_inferd.backends.online import OnlineBackend, Prepared
    from batch_inferd.money.budget import BudgetPlan
    from batch_inferd.seams.clock import Clock
    from batch_inferd.seams.events import Events
    from batch_inferd.worker.chunk import LeasedChunk
    from batch_inferd.worker.gate import Gate
    from batch_inferd.worker.link import Link
    from batch_inferd.worker.pump import Lane
    from batch_inferd.worker.purse import Purse
    from batch_inferd.worker.queues import TaskQueue
    from batch_inferd.worker.record import Record

_log = logging.getLogger(__name__)

_REDIRECTED = 300  # this status and those above it are no answers, and not billed
_TIMED_OUT = frozenset({408, 504, 524})  # but these: what stands behind a gateway may have done the work
MAX_OUTAGES = 10  # failures of one record that are forgiven as an outage


class Attempt(msgspec.Struct):
    """One record on its way through one attempt. `sent_at` is monotonic."""

    gate: Gate
    queue: TaskQueue
    record: Record
    prepared: Prepared
    link: Link
    sent_at: float
    lane: Lane
    held: HeldAnswer
    custom_id: bytes = b""
    own_model: bool = False
    purse: Purse | None = None  # what the call is committed in, for `worst`
    worst: int = 0

    @property
    def chunk(self) -> LeasedChunk:
        """The record's chunk."""
        return self.record.chunk


class Hooks(Protocol):
    """What a runner asks of the worker."""

    def wake(self) -> None:
        """A call is over, and its record will not be settled at once: another one may begin."""

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
        self._images = Images(hooks.wake)

    def close(self) -> None:
        """Once no call is under way."""
        self._images.close()

    async def run(self, gate: Gate, queue: TaskQueue, record: Record, lane: Lane) -> None:
        """Take one record through one attempt, in task `lane`. Its slot at the gate has been taken."""
        prepared = queue.prepared
        held = HeldAnswer(gate.answers, record.room - record.length)
        now = self._clock.monotonic()
        attempt = Attempt(gate, queue, record, prepared, queue.link, now, lane, held)
        try:
            outcome = await self._call(attempt)
            if outcome is None:
                pass
            elif outcome.verdict.action is Action.ANSWER:
                await self._record(attempt, outcome)
            else:
                self._hooks.wake()
                await self._follow(attempt, outcome)
        except OSError as error:
            self._not_recorded(record, error)
        except BaseException as error:
            # A bug must end in a pause that names it, not in a lost record.
            _log.exception("a bug: line %d of task %s", record.line, record.chunk.lease.task_id)
            self._not_recorded(record, Bug(error))
            if not isinstance(error, Exception):
                raise
        finally:
            held.free()
            self._hooks.settled(record)

    def _not_recorded(self, record: Record, error: OSError) -> None:
        """Whatever came of the record does not count: the next lease does it again."""
        if not record.waiting:
            record.chunk.returned(record)
        self._hooks.faulted(record.chunk, error)

    async def _call(self, attempt: Attempt) -> Outcome | None:
        """The outcome of the call; None when the record is settled without one.

        Its slot is given back, but for an answer: that one keeps it until it is recorded.
        """
        record, chunk = attempt.record, attempt.chunk
        used: int | None = 0
        outcome: Outcome | None = None
        wrong: InvalidLine | ImageError
        try:
            if chunk.given_up:
                chunk.returned(record)
                return None
            request = _build(record, attempt.prepared)
            if attempt.prepared.budget is not None and isinstance(request, Request):
                affordable = self._afford(attempt, attempt.prepared.budget, request)
                if affordable is None:
                    return None
                request = affordable
            if isinstance(request, Request):
                attempt.custom_id, attempt.own_model = request.custom_id, request.own_model
                chunk.calls.add(attempt.lane)
                try:
                    if attempt.prepared.images is not None:
                        request = await self._images.fill(request, attempt.queue, attempt.held)
                        attempt.sent_at = self._clock.monotonic()
                    record.attempts += 1
                    used = None
                    outcome = await self._backend.call(attempt.prepared, request, attempt.held)
                finally:
                    chunk.calls.discard(attempt.lane)
                if outcome.verdict.action is not Action.ANSWER:
                    used = _used(outcome)
                return outcome
            wrong = request
        except ImageError as error:
            wrong = error
        except asyncio.CancelledError:
            self._cancelled(attempt, sent=used is None)
            return None
        finally:
            if outcome is None or outcome.verdict.action is not Action.ANSWER:
                attempt.gate.returned(record, record.tokens, used)
            if attempt.purse is not None:
                attempt.purse.settle(attempt.worst, _cost(attempt, outcome, sent=used is None))
        await self._not_made(attempt, wrong)
        return None

    def _afford(self, attempt: Attempt, terms: BudgetPlan, request: Request) -> Request | InvalidLine | None:
        """Commit what the call costs at most; None when there is no money for it now: it waits in line."""
        purse, record = attempt.queue.purse, attempt.record
        if purse is None:
            raise RuntimeError("a task with a budget has no purse")
        try:
            most = bounded(request.endpoint, request.body, terms, own_model=request.own_model)
        except Unbounded as error:
            return InvalidLine(str(error), request.custom_id)
        worst = terms.online.most(*most)
        if not purse.commit(worst):
            attempt.chunk.put_off(record)
            attempt.queue.put_back(record)
            return None
        attempt.purse, attempt.worst = purse, worst
        return request

    async def _not_made(self, attempt: Attempt, wrong: InvalidLine | ImageError) -> None:
        """The line, or an image of it, cannot be sent: it ends, unless the image may be read later."""
        record, verdict = attempt.record, Verdict(Action.END, wrong.cls, str(wrong))
        if isinstance(wrong, InvalidLine):
            attempt.custom_id = wrong.custom_id
        elif wrong.transient:
            retry = attempt.prepared.plan.retry
            record.attempts += 1
            record.charged += 1
            if record.charged <= retry.max_count:
                outcome = Outcome(verdict, None, None, 0)
                self._try_again(attempt, outcome, full_jitter(retry, record.charged), free=False)
                return
        await self._end(attempt, verdict, None)

    async def _follow(self, attempt: Attempt, outcome: Outcome) -> None:
        """What came of a call, other than an answer."""
        gate, verdict = attempt.gate, outcome.verdict
        if verdict.action is Action.NETWORK:
            self._not_sent(attempt, outcome)
            return
        self._came_through(attempt, outcome)
        if verdict.action is Action.THROTTLE:
            await self._throttled(attempt, outcome)
        else:
            gate.failed(retry=verdict.action is Action.RETRY)
            if verdict.action is Action.RETRY:
                await self._sent_failed(attempt, outcome)
            elif verdict.action is Action.BLOCK and not (verdict.cls == "model" and attempt.own_model):
                self._hooks.blocked(attempt, outcome)
                self._try_again(attempt, outcome, 0.0, free=True)
            else:
                await self._end(attempt, verdict, outcome)

    def _came_through(self, attempt: Attempt, outcome: Outcome) -> None:
        attempt.link.came_through()
        gate = attempt.gate
        if outcome.reply is not None and not gate.seen.quota:
            gate.take_quota(outcome.reply.headers)

    async def _record(self, attempt: Attempt, outcome: Outcome) -> None:
        """Write the answer down, and give its slot back: a kill loses no more answers than there are slots.

        With durability `strict` it is on the disk when this returns. Raises OSError: it does not count.
        """
        record, chunk, gate, verdict = attempt.record, attempt.chunk, attempt.gate, outcome.verdict
        try:
            self._came_through(attempt, outcome)
            line, rec = chunk.answer_line(record, attempt.prepared, attempt.custom_id, outcome)
            gate.answers.learn(rec)
            try:
                at = await chunk.journal.commit(line)
            except OSError as error:
                self._tell("answer.lost", record, error=str(error))
                raise
        finally:
            gate.returned(record, record.tokens, _used(outcome))
        chunk.answered(record, at, len(line), rec, outcome.ms, verdict.usage)
        gate.answered(record)
        if self._events.heard("record.answered"):
            self._tell("record.answered", record, ms=outcome.ms, finish_reason=verdict.finish_reason)

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
            chunk.calls.add(attempt.lane)
            try:
                connects = await attempt.link.still_connects(attempt.prepared)
            finally:
                chunk.calls.discard(attempt.lane)
        except asyncio.CancelledError:
            self._cancelled(attempt)
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

    def _cancelled(self, attempt: Attempt, *, sent: bool = True) -> None:
        """Given up in flight. Once it was `sent`: whether the service did it, and bills it, nobody knows."""
        attempt.lane.uncancel()  # it goes on with another record
        record, chunk = attempt.record, attempt.record.chunk
        if not record.waiting:
            chunk.returned(record)
        if sent and chunk.ending == "aborted":
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


def _used(outcome: Outcome) -> int | None:
    """The tokens of a call, in and out; None where nobody said, though it may have used some."""
    verdict = outcome.verdict
    if verdict.action is Action.NETWORK or verdict.action is Action.THROTTLE:
        return 0
    usage = verdict.usage
    if usage.tokens_in is None or usage.tokens_out is None:
        return None
    return usage.tokens_in + usage.tokens_out


def _cost(attempt: Attempt, outcome: Outcome | None, *, sent: bool) -> int:
    """What a committed call has cost, as its answer tells; all that it may cost where nobody knows."""
    terms = attempt.prepared.budget
    if terms is None:
        raise RuntimeError("a call without a budget was committed")
    if outcome is None:
        return attempt.worst if sent else 0
    verdict, reply = outcome.verdict, outcome.reply
    if verdict.action is Action.NETWORK:
        return 0
    usage = verdict.usage
    if usage.tokens_in is not None and usage.tokens_out is not None:
        return terms.online.cost(usage.tokens_in, usage.tokens_out, usage.tokens_cached or 0)
    if reply is None or reply.status < _REDIRECTED or reply.status in _TIMED_OUT:
        return attempt.worst
    return 0


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
