"""Large answers wait for room, and the first of them never does."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from worker_kit import ManualClock, settle

from batch_inferd.worker.answers import HeldAnswer
from batch_inferd.worker.gate import Gate

MB = 1024 * 1024


def gate(room: int) -> Gate:
    made = Gate("acc", ManualClock())
    made.tell(64, None, None, room=room)
    return made


async def test_the_second_waits_until_the_first_is_recorded():
    room = gate(8 * MB)
    first, second = HeldAnswer(room.answers), HeldAnswer(room.answers)
    await first.take(5 * MB)
    waiting = asyncio.create_task(second.take(5 * MB))
    await settle()
    assert not waiting.done()
    assert room.bytes_in_flight == 5 * MB
    first.free()
    await waiting
    assert room.bytes_in_flight == 5 * MB
    second.free()
    second.free()
    assert room.bytes_in_flight == 0


async def test_the_first_goes_on_beyond_the_limit_and_can_be_finished():
    room = gate(8 * MB)
    first, second = HeldAnswer(room.answers), HeldAnswer(room.answers)
    await first.take(4 * MB)
    await second.take(4 * MB)
    stuck = asyncio.create_task(second.take(1))
    await first.take(40 * MB)  # a stream whose end nobody told
    await settle()
    assert not stuck.done()
    first.free()
    await stuck
    second.free()
    assert room.bytes_in_flight == 0


async def test_one_that_is_given_up_while_it_waits_leaves_no_trace():
    room = gate(8 * MB)
    first, second, third = (HeldAnswer(room.answers) for _ in range(3))
    await first.take(8 * MB)
    given_up = asyncio.create_task(second.take(MB))
    patient = asyncio.create_task(third.take(8 * MB))
    await settle()
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    second.free()
    first.free()
    await patient
    assert room.bytes_in_flight == 8 * MB
    third.free()
    assert room.bytes_in_flight == 0


async def test_a_line_that_came_back_makes_room():
    room = gate(8 * MB)
    record = SimpleNamespace(length=6 * MB, mark=None)
    room.sent(record, 1)
    first, second = HeldAnswer(room.answers), HeldAnswer(room.answers)
    await first.take(MB)
    waiting = asyncio.create_task(second.take(4 * MB))
    await settle()
    assert not waiting.done()
    room.returned(record, 1, 1)
    await waiting


@given(
    st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=8),
    st.integers(0, 2**32),
)
def test_all_come_through_and_no_more_is_held_than_the_limit_and_one_answer(answers, seed):
    limit, order = 8, random.Random(seed)

    async def read_all() -> int:
        room = gate(limit)
        most = 0

        async def read(parts: list[int]) -> None:
            nonlocal most
            held = HeldAnswer(room.answers)
            try:
                for part in parts:
                    await held.take(part)
                    most = max(most, room.bytes_in_flight)
                    for _ in range(order.randrange(3)):
                        await asyncio.sleep(0)
            finally:
                held.free()

        async with asyncio.timeout(10):
            await asyncio.gather(*(read(parts) for parts in answers))
        assert room.bytes_in_flight == 0
        return most

    assert asyncio.run(read_all()) <= limit + max(sum(parts) for parts in answers)


def test_where_answers_are_large_a_call_needs_room_for_its_answer():
    room = gate(16 * MB)
    for _ in range(100):
        room.answers.learn(5 * MB)
    assert room.answers.expected > 5 * MB
    assert room.room(1000)  # one always goes
    room.bytes_in_flight += 12 * MB
    assert not room.room(1000)
    for _ in range(100):
        room.answers.learn(500)
    assert room.answers.expected == 0
    assert room.room(1000)
    room.answers.learn(60 * 1024)  # not large
    assert room.answers.expected == 0


async def test_what_was_reserved_need_not_be_waited_for():
    room = gate(8 * MB)
    first, second = HeldAnswer(room.answers, 4 * MB), HeldAnswer(room.answers, 4 * MB)
    room.bytes_in_flight = 8 * MB  # of the calls
    await first.take(3 * MB)
    await second.take(4 * MB)
    await first.take(MB)
    assert room.bytes_in_flight == 8 * MB
    first.free()
    second.free()
    assert room.bytes_in_flight == 8 * MB
