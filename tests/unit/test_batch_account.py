"""What tasks share of an account's Batch API: places in its queue, its network, the looks at batches."""

import asyncio
import itertools

import pytest
from worker_kit import ManualClock, settle

from batch_infer.protocol.text import Text
from batch_inferd.backends.batch.api import BatchApi
from batch_inferd.backends.batch.provider import (
    BatchState,
    BatchStatus,
    Blocked,
    NotFound,
    NotSent,
    Throttled,
    Unsettled,
)
from batch_inferd.backends.batch.provider import (
    Capacity as QueueFull,
)
from batch_inferd.batches.capacity import FULL_FIRST_S, Capacity
from batch_inferd.batches.poller import LIST_FROM, Poller
from batch_inferd.batches.reach import Reach

API = BatchApi(poll_first_s=10.0, poll_max_s=60.0, poll_min_s=1.0)


def status(batch_id, raw="in_progress", state=BatchState.RUNNING):
    return BatchStatus(id=batch_id, state=state, raw_state=raw, created=1_760_000_000.0)


class Provider:
    """Answers looks, counts calls."""

    def __init__(self, listed=()):
        self.listed = list(listed)
        self.retrieved = []
        self.lists = 0
        self.error = None

    async def retrieve(self, batch_id):
        self.retrieved.append(batch_id)
        if self.error is not None:
            raise self.error
        return status(batch_id)

    async def recent(self, since):
        self.lists += 1
        for batch_id in self.listed:
            yield status(batch_id)


# places in the queue


def test_batches_in_flight_are_limited():
    capacity = Capacity(ManualClock())
    api = BatchApi(max_in_flight=2)
    assert capacity.reserve("a", 5, api) is None
    assert capacity.reserve("b", 5, api) is None
    full = capacity.reserve("c", 5, api)
    assert "2 batches are in flight" in str(full.text)
    assert full.until is None
    capacity.release("a")
    assert capacity.reserve("c", 5, api) is None
    assert (capacity.batches, capacity.tokens) == (2, 10)
    assert capacity.reserve("c", 5, api) is None, "its place is its own"


def test_enqueued_tokens_are_reserved_for_all_and_one_alone_always_goes():
    capacity = Capacity(ManualClock())
    api = BatchApi(enqueued_tokens=100)
    assert capacity.reserve("big", 500, api) is None
    assert "500 of 100 tokens" in str(capacity.reserve("b", 1, api).text)
    capacity.release("big")
    assert capacity.reserve("b", 60, api) is None
    assert capacity.reserve("c", 60, api) is not None
    assert capacity.reserve("d", 40, api) is None


async def test_creations_within_an_hour_are_limited():
    clock = ManualClock()
    capacity = Capacity(clock)
    api = BatchApi(creates_per_hour=2)
    for key in "ab":
        assert capacity.reserve(key, 1, api) is None
        capacity.created()
    full = capacity.reserve("c", 1, api)
    assert full.until == clock.monotonic() + 3600.0
    await clock.advance(3600.5)
    assert capacity.reserve("c", 1, api) is None


async def test_a_full_queue_is_left_alone_longer_each_time():
    clock = ManualClock()
    capacity = Capacity(clock)
    waits = []
    for _ in range(8):
        assert capacity.reserve("a", 1, API) is None
        waits.append(capacity.refused("a", "tokens"))
        assert "tokens" in str(capacity.reserve("b", 1, API).text)
        await clock.advance(waits[-1] + 0.1)
    assert 0.8 * FULL_FIRST_S <= waits[0] <= 1.2 * FULL_FIRST_S
    assert all(later > earlier for earlier, later in itertools.pairwise(waits[:5]))
    assert max(waits) <= 1800 * 1.2
    capacity.accepted()
    capacity.reserve("a", 1, API)
    assert capacity.refused("a", "tokens") <= 1.2 * FULL_FIRST_S
    assert capacity.reserve("b", 1, API) is not None
    assert capacity.refused("c", "x", retry_after=9000.0) >= 9000.0


async def test_the_end_of_a_batch_makes_room_and_wakes_who_waits():
    clock = ManualClock()
    capacity = Capacity(clock)
    capacity.adopt("live", 10)
    capacity.reserve("a", 1, API)
    capacity.refused("a", "full")
    waiter = asyncio.create_task(capacity.changed(clock.monotonic() + 1000))
    await settle()
    assert not waiter.done()
    capacity.release("live")
    await asyncio.wait_for(waiter, 5)
    assert capacity.reserve("a", 1, API) is None, "a batch has ended: there may be room"


# the network


async def test_a_lost_network_is_waited_out_one_caller_at_a_time():
    clock = ManualClock()
    reach = Reach(clock)
    calls = []
    up = asyncio.Event()

    async def make(name):
        calls.append(name)
        if not up.is_set():
            raise NotSent("refused", "refused", "127.0.0.1:1")
        return name

    jobs = [asyncio.create_task(reach.call(lambda n=n: make(n))) for n in range(5)]
    await settle()
    assert 1 <= len(calls) <= 5
    assert "127.0.0.1:1" in str(reach.down)
    for _ in range(12):
        before = len(calls)
        await clock.advance(31.0)
        assert len(calls) - before == 1, "one tries, the others stand behind"
    up.set()
    await clock.advance(31.0)
    assert sorted([await job for job in jobs]) == [0, 1, 2, 3, 4]
    assert reach.down is None


async def test_a_throttled_call_holds_all_and_is_made_again():
    clock = ManualClock()
    reach = Reach(clock)
    answers = [Throttled(Text("slow down"), 40.0), "done"]

    async def make():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    job = asyncio.create_task(reach.call(make))
    await settle()
    await clock.advance(39.0)
    assert not job.done()
    await clock.advance(2.0)
    assert await job == "done"


@pytest.mark.parametrize(
    "error", [QueueFull(Text("full")), Unsettled(Text("?")), Blocked(Text("no"), "auth")]
)
async def test_what_else_comes_of_a_call_goes_to_the_caller(error):
    async def make():
        raise error

    with pytest.raises(type(error)):
        await Reach(ManualClock()).call(make)


# the looks


def poller(clock):
    return Poller(clock, Reach(clock))


async def test_looks_grow_apart_and_begin_anew_when_the_state_moves():
    clock = ManualClock()
    provider, looks = Provider(), poller(clock)
    gaps = []
    for _ in range(6):
        job = asyncio.create_task(looks.look("k", "b", clock.now(), API, provider))
        await settle()
        begun = clock.monotonic()
        while not job.done():
            await clock.advance(1.0)
        gaps.append(clock.monotonic() - begun)
        assert (await job).id == "b"
    assert gaps[0] <= 13
    assert gaps[-1] > 3 * gaps[0]
    assert max(gaps) <= 60 * 1.15 + 1
    looks.soon("k")
    assert looks.due_in("k") <= API.poll_min_s
    looks.close()


async def test_many_due_batches_are_looked_at_by_one_list():
    clock = ManualClock()
    names = [f"b{n}" for n in range(LIST_FROM + 3)]
    provider, looks = Provider(names[:-1]), poller(clock)
    jobs = [asyncio.create_task(looks.look(name, name, clock.now(), API, provider)) for name in names]
    await settle()
    for _ in range(20):
        await clock.advance(1.0)
    assert {(await job).id for job in jobs} == set(names)
    assert 1 <= provider.lists <= 3
    assert names[-1] in provider.retrieved, "one that the list lacks is asked for"
    assert len(provider.retrieved) <= 3
    looks.close()


async def test_a_look_that_fails_is_only_late_and_one_that_is_refused_is_told():
    clock = ManualClock()
    provider, looks = Provider(), poller(clock)
    provider.error = Unsettled(Text("reset"))
    job = asyncio.create_task(looks.look("k", "b", clock.now(), API, provider))
    await settle()
    for _ in range(30):
        await clock.advance(1.0)
    assert not job.done()
    assert provider.retrieved
    provider.error = NotFound(Text("gone"))
    for _ in range(60):
        await clock.advance(1.0)
    with pytest.raises(NotFound):
        await job
    looks.close()


async def test_a_place_that_nobody_looks_at_lapses_with_its_window():
    clock = ManualClock()
    capacity = Capacity(clock)
    api = BatchApi(max_in_flight=1)
    capacity.adopt("paused", 10)
    capacity.rest("paused", 7200.0)
    assert capacity.reserve("other", 1, api) is not None
    await clock.advance(7000.0)
    capacity.adopt("paused", 10)  # it went on: its place does not lapse
    await clock.advance(1000.0)
    assert capacity.reserve("other", 1, api) is not None
    capacity.rest("paused", -5.0)
    await clock.advance(601.0)
    assert capacity.reserve("other", 1, api) is None


async def test_looks_that_fail_again_and_again_are_shown():
    clock = ManualClock()
    provider, looks = Provider(), poller(clock)
    provider.error = Unsettled(Text("HTTP 500"))
    job = asyncio.create_task(looks.look("k", "b", clock.now(), API, provider))
    await settle()
    for _ in range(200):
        await clock.advance(1.0)
    assert str(looks.trouble("k")) == "HTTP 500"
    provider.error = None
    for _ in range(80):
        await clock.advance(1.0)
    assert (await job).id == "b"
    assert looks.trouble("k") is None
    looks.close()
