"""The pump: starts calls while the accounts' gates and the queues allow it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from batch_inferd.worker.gate import Gate, estimate
from batch_inferd.worker.queues import TaskQueue
from batch_inferd.worker.record import Record
from batch_inferd.worker.waits import Alarm

if TYPE_CHECKING:
    from batch_inferd.seams.clock import Clock

_log = logging.getLogger(__name__)
Lane = asyncio.Task[None]
Run = Callable[[Gate, TaskQueue, Record, Lane], Coroutine[Any, Any, None]]


class Pump:
    """Runs records in lanes: a lane is an asyncio task that takes one record after the other.

    A new lane begins when something changed (`wake`), at the time that the nearest wait ends, and where
    there is room for more than the lanes at hand. A lane that finds nothing to send ends.
    """

    def __init__(self, clock: Clock, gates: Callable[[], Iterable[Gate]], run: Run) -> None:
        self._clock = clock
        self._gates = gates
        self._run = run
        self._alarm = Alarm(clock, self.wake)
        self._scheduled = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lanes: set[Lane] = set()

    def wake(self) -> None:
        """Look soon whether calls can start; many wakes become one look."""
        if not self._scheduled:
            self._scheduled = True
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._look)

    def stop(self) -> None:
        """Start nothing any more by the clock."""
        self._alarm.cancel()

    def _look(self) -> None:
        self._scheduled = False
        loop = self._loop or asyncio.get_running_loop()
        now = self._clock.monotonic()
        for gate in self._gates():
            while (turn := self._next(gate, now)) is not None:
                lane = loop.create_task(self._drive(gate, *turn))
                self._lanes.add(lane)
                lane.add_done_callback(self._ended)

    def _ended(self, lane: Lane) -> None:
        self._lanes.discard(lane)
        if not lane.cancelled() and (error := lane.exception()) is not None:
            _log.error("a bug in a lane; the others go on", exc_info=error)
            self.wake()

    async def _drive(self, gate: Gate, queue: TaskQueue, record: Record) -> None:
        lane = asyncio.current_task()
        if lane is None:
            raise RuntimeError("a lane is a task")
        turn: tuple[TaskQueue, Record] | None = (queue, record)
        while turn is not None:
            await self._run(gate, *turn, lane)
            turn = self._next(gate, self._clock.monotonic())
            if gate.in_flight < gate.slots:
                self.wake()  # what ended may have made room for more than one

    def _next(self, gate: Gate, now: float) -> tuple[TaskQueue, Record] | None:
        """Take the record that may be sent now; where only time is missing, the alarm is set."""
        delay = gate.delay(now)
        if delay is None:
            return None
        turn = gate.turns.peek(now)
        if turn is None:
            due = gate.turns.next_due()
            if due is not None:
                self._alarm.set(due)
            return None
        if delay > 0:
            self._alarm.set(now + delay)
            return None
        queue, record = turn
        if not gate.room(record.length):
            return None  # the next call that ends makes room; overtaking would starve a long record
        gate.turns.take(queue, record)
        record.tokens = estimate(record.length, queue.prepared)
        gate.sent(record, record.tokens)
        record.chunk.taken(record)
        return turn
