"""The pump: starts calls while the accounts' gates, the bytes in flight and the queues allow it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from batch_inferd.worker.gate import Gate
from batch_inferd.worker.queues import TaskQueue
from batch_inferd.worker.record import Record
from batch_inferd.worker.waits import Alarm

if TYPE_CHECKING:
    from batch_inferd.seams.clock import Clock

BYTES_IN_FLIGHT = 64 * 1024 * 1024  # of input lines; a larger record goes alone

Run = Callable[[Gate, TaskQueue, Record], Coroutine[Any, Any, None]]


class Pump:
    """Runs when something changed (`wake`), and at the time that the nearest wait ends."""

    def __init__(self, clock: Clock, gates: Callable[[], Iterable[Gate]], run: Run) -> None:
        self._clock = clock
        self._gates = gates
        self._run = run
        self._alarm = Alarm(clock, self.wake)
        self._scheduled = False
        self._bytes = 0
        self._running: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Look soon whether calls can start; many wakes become one look."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._look)

    def bytes_free(self, record: Record) -> None:
        """A record's call is over."""
        self._bytes -= record.length

    def stop(self) -> None:
        """Start nothing any more by the clock."""
        self._alarm.cancel()

    def _look(self) -> None:
        self._scheduled = False
        now = self._clock.monotonic()
        for gate in self._gates():
            next_look = self._serve(gate, now)
            if next_look is not None:
                self._alarm.set(next_look)

    def _serve(self, gate: Gate, now: float) -> float | None:
        """Start what one account allows; when to look again, None where an event will tell."""
        while (delay := gate.delay(now)) is not None:
            turn = gate.turns.peek(now)
            if turn is None:
                return gate.turns.next_due()
            if delay > 0:
                return now + delay
            queue, record = turn
            if self._bytes and self._bytes + record.length > BYTES_IN_FLIGHT:
                return None  # the next call that ends makes room; overtaking would starve a long record
            gate.turns.take(queue, record)
            gate.sent(record)
            record.chunk.taken(record)
            self._bytes += record.length
            task = asyncio.create_task(self._run(gate, queue, record))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return None
