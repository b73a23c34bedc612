from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from worker_kit import FakeTransport, ManualClock, fresh, make_plan, settle

from batch_inferd.backends.online import Prepared
from batch_inferd.worker.gate import BYTES_IN_FLIGHT, Gate, estimate
from batch_inferd.worker.link import Link
from batch_inferd.worker.pump import Lane, Pump
from batch_inferd.worker.queues import TaskQueue, Turns
from batch_inferd.worker.record import Record
from batch_inferd.worker.report import LogBuffer

PREPARED = Prepared(make_plan("http://service/v1"))


def chunk(number: int) -> Any:
    return SimpleNamespace(sending=True, lease=SimpleNamespace(chunk=number), taken=lambda _: None)


def records(of: Any, lines: range) -> list[Record]:
    return [Record(of, line, 0, 10) for line in lines]


def task(name: str = "t") -> TaskQueue:
    return TaskQueue(name, name, PREPARED, Link(FakeTransport(), ManualClock(), lambda: None))


def drain(queue: TaskQueue, now: float = 0.0) -> list[tuple[int, int]]:
    order = []
    while (record := queue.peek(now)) is not None:
        queue.take(record)
        order.append((record.chunk.lease.chunk, record.line))
    return order


def test_by_chunk_and_line_whatever_the_order_of_the_leases():
    queue = task()
    for number in (3, 1, 2):
        queue.add_fresh(number, fresh(chunk(number), number * 10, 10, 10, 10))
    assert drain(queue) == [(n, n * 10 + i) for n in (1, 2, 3) for i in range(3)]


def test_what_was_sent_before_goes_first_and_retries_when_they_are_due():
    queue, one = task(), chunk(1)
    before = records(one, range(1, 3))
    queue.add_fresh(1, fresh(one, 3, 10, 10))
    queue.put_back(before[1])
    queue.put_back(before[0])
    late = records(one, range(9, 10))[0]
    queue.delay(late, 50.0)
    assert drain(queue) == [(1, 1), (1, 2), (1, 3), (1, 4)]
    assert queue.next_due() == 50.0
    assert drain(queue, 49.9) == []
    assert drain(queue, 50.0) == [(1, 9)]
    assert queue.next_due() is None


def test_records_of_an_ended_lease_are_dropped_wherever_they_are():
    queue, gone, stays = task(), chunk(1), chunk(1)
    queue.add_fresh(1, fresh(gone, 1, 10, 10, 10))
    queue.put_back(records(gone, range(4, 5))[0])
    queue.delay(records(gone, range(5, 6))[0], 99.0)
    queue.add_fresh(1, fresh(stays, 1, 10, 10))
    queue.put_back(records(stays, range(4, 5))[0])  # the same chunk and line, under another lease
    gone.sending = False
    assert drain(queue) == [(1, 4), (1, 1), (1, 2)]
    assert queue.next_due() is None


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6))
def test_tasks_take_turns_however_large_they_are(sizes):
    turns = Turns()
    for index, size in enumerate(sizes):
        queue = task(str(index))
        queue.add_fresh(1, fresh(chunk(1), 1, *[10] * size))
        turns.add(queue)
    served: list[int] = []
    while (turn := turns.peek(0.0)) is not None:
        turns.take(*turn)
        served.append(int(turn[0].task))
    assert len(served) == sum(sizes)
    for index, size in enumerate(sizes):
        last = max(at for at, name in enumerate(served) if name == index)
        assert last + 1 <= size * len(sizes)  # as if all the others had endless lines


def test_a_blocked_task_lets_the_others_go_on():
    turns, blocked, free = Turns(), task("a"), task("b")
    for queue in (blocked, free):
        queue.add_fresh(1, fresh(chunk(1), 1, 10, 10))
        turns.add(queue)
    blocked.blocked = True
    assert [turns.peek(0.0)[0] for _ in range(2)] == [free, free]
    turns.remove(free)
    assert turns.peek(0.0) is None


class Calls:
    """Stands in for the runner: calls begin, and end when the test says."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.gate = Gate("acc", self.clock)
        self.pump = Pump(self.clock, lambda: [self.gate], self._run)
        self.queue = task()
        self.gate.turns.add(self.queue)
        self.under_way: dict[int, asyncio.Event] = {}
        self.most = 0

    async def _run(self, gate: Gate, _: TaskQueue, record: Record, __: Lane) -> None:
        done = self.under_way[record.line] = asyncio.Event()
        self.most = max(self.most, len(self.under_way))
        await done.wait()
        del self.under_way[record.line]
        gate.returned(record, estimate(record.length, self.queue.prepared), None)

    async def end(self, line: int) -> None:
        self.under_way[line].set()
        await settle()


async def test_as_many_calls_as_slots():
    calls = Calls()
    calls.queue.add_fresh(1, fresh(chunk(1), 1, *[10] * 10))
    calls.gate.tell(3, None, None)
    calls.pump.wake()
    await settle()
    assert sorted(calls.under_way) == [1, 2, 3]
    await calls.end(2)
    assert sorted(calls.under_way) == [1, 3, 4]
    while calls.under_way:
        await calls.end(min(calls.under_way))
    assert calls.most == 3


async def test_bytes_in_flight_are_bounded_and_a_large_record_goes_alone():
    calls, one = Calls(), chunk(1)
    third = BYTES_IN_FLIGHT // 3
    calls.queue.add_fresh(1, fresh(one, 1, *[third] * 5, 2 * BYTES_IN_FLIGHT, 10, 10))
    calls.gate.tell(100, None, None)
    calls.pump.wake()
    await settle()
    assert sorted(calls.under_way) == [1, 2, 3]
    await calls.end(1)
    await calls.end(2)
    assert sorted(calls.under_way) == [3, 4, 5]
    for line in (3, 4):
        await calls.end(line)
    assert sorted(calls.under_way) == [5]  # the large one waits for all, and nobody overtakes it
    await calls.end(5)
    assert sorted(calls.under_way) == [6]
    await calls.end(6)
    assert sorted(calls.under_way) == [7, 8]
    for line in (7, 8):
        await calls.end(line)


async def test_the_rate_and_the_hold_are_kept_by_the_clock():
    calls = Calls()
    calls.queue.add_fresh(1, fresh(chunk(1), 1, *[10] * 99))
    calls.gate.tell(100, 10.0, calls.clock.now() + 5)
    calls.pump.wake()
    await settle()
    await calls.clock.advance(4.9)
    assert calls.under_way == {}
    await calls.clock.advance(0.1)
    assert len(calls.under_way) == 1
    for _ in range(20):
        await calls.clock.advance(0.05)
    assert 9 <= len(calls.under_way) <= 11
    calls.pump.stop()
    for line in tuple(calls.under_way):
        calls.gate.blocked = True
        await calls.end(line)


async def test_a_retry_wakes_the_pump_when_it_is_due():
    calls = Calls()
    calls.gate.tell(5, None, None)
    calls.queue.delay(records(chunk(1), range(7, 8))[0], calls.clock.time + 30)
    calls.pump.wake()
    await settle()
    await calls.clock.advance(29.9)
    assert calls.under_way == {}
    await calls.clock.advance(0.2)
    assert sorted(calls.under_way) == [7]
    await calls.end(7)


def test_log_records_are_bounded_and_the_dropped_ones_counted():
    log = LogBuffer(ManualClock())
    for number in range(5000):
        log.add(30, "t", 1, f"{number} " + "x" * 5000)
    log.add(40, "t", 1, "an error still fits")
    taken = []
    while part := log.take():
        assert sum(len(str(record)) for record in part) < 1_000_000
        taken += part
    messages = [record["message"] for record in taken]
    assert "an error still fits" in messages
    assert messages[-1] == "4500 more log records were dropped"
    assert len(taken) == 502
    assert log.take() == []
