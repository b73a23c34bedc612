"""Tasks share an account by weight, workers by what they have to send, daemons by their number."""

from __future__ import annotations

import asyncio

import pytest
from scenes import ENDLESS, OPEN, play, running
from services import Bucket, Concurrency, Service
from world import Daemon, Task

from batch_inferd.scheduling.limits import Limits

WORKERS = (1, 2, 4)
LATENCY_S = 1.1


@pytest.mark.parametrize("workers", WORKERS)
def test_two_tasks_share_within_a_tenth(workers):
    service = Service(Concurrency(40), 5)

    async def scene() -> None:
        daemon = Daemon(service, workers, OPEN)
        first = daemon.add(Task("first", ENDLESS))
        async with running(daemon):
            await asyncio.sleep(30)
            second = daemon.add(Task("second", ENDLESS))
            await asyncio.sleep(120)
        rates = [task.rate(60, 150) for task in (first, second)]
        assert max(rates) <= 1.1 * min(rates)

    play(scene, 5)


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("priority", [1, -2])
def test_priorities_share_by_weight(workers, priority):
    service = Service(Bucket(3000), 6)

    async def scene() -> None:
        daemon = Daemon(service, workers, OPEN)
        plain = daemon.add(Task("plain", ENDLESS))
        other = daemon.add(Task("other", ENDLESS, priority=priority))
        async with running(daemon):
            await asyncio.sleep(120)
        share = other.rate(30, 120) / plain.rate(30, 120)
        assert share == pytest.approx(2.0**priority, rel=0.1)

    play(scene, 6)


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize(("kind", "most"), [(Concurrency, 40), (Bucket, 1200)])
def test_a_small_late_task_is_not_starved_by_a_huge_early_one(workers, kind, most):
    service = Service(kind(most), 7)

    async def scene() -> None:
        daemon = Daemon(service, workers, OPEN)
        daemon.add(Task("huge", 10**6))
        async with running(daemon):
            await asyncio.sleep(90)
            rate = service.rate(60, 90)
            begun = asyncio.get_running_loop().time()
            small = daemon.add(Task("small", 100))
            while small.open:
                await asyncio.sleep(0.1)
                assert asyncio.get_running_loop().time() - begun < 2 * 100 / (rate / 2)

    play(scene, 7)


def in_any_minute(sends: list[float]) -> int:
    """The most calls within 60 s, wherever they begin."""
    most, first = 0, 0
    for last, at in enumerate(sends):
        while sends[first] <= at - 60.0:
            first += 1
        most = max(most, last - first + 1)
    return most


@pytest.mark.parametrize("workers", WORKERS)
def test_rpm_holds_in_any_minute_and_is_used(workers):
    service = Service(Concurrency(10**6), 8)

    async def scene() -> None:
        daemon = Daemon(service, workers, Limits(64, 1024, rpm=600))
        daemon.add(Task("endless", ENDLESS))
        async with running(daemon):
            await asyncio.sleep(200)

    play(scene, 8)
    assert in_any_minute(service.ok) <= 600 * 1.02
    assert service.rate(20, 200) >= 0.95 * 10


@pytest.mark.parametrize("workers", WORKERS)
def test_tpm_holds_over_a_minute_and_is_used(workers):
    """The estimates are far too high (max_tokens), and the answers a third of them: it is learnt."""
    service = Service(Concurrency(10**6), 9)

    async def scene() -> None:
        daemon = Daemon(service, workers, Limits(64, 1024, tpm=600_000))
        daemon.add(Task("endless", ENDLESS, max_tokens=16_384))
        async with running(daemon):
            await asyncio.sleep(240)

    play(scene, 9)
    for begin in range(0, 180, 10):
        assert service.token_rate(begin, begin + 60) <= 10_000 * 1.1
    assert service.token_rate(60, 240) >= 0.9 * 10_000


def test_a_worker_with_nothing_to_send_keeps_no_share():
    service = Service(Concurrency(10**6), 10)

    async def scene() -> None:
        daemon = Daemon(service, 4, Limits(64, 1024, rpm=600))
        daemon.add(Task("one chunk", 2_000, chunk=2_000))
        async with running(daemon):
            await asyncio.sleep(100)
        assert sum(bool(worker.sends) for worker in daemon.workers) == 1

    play(scene, 10)
    assert service.rate(10, 100) >= 0.95 * 10


def test_a_dead_workers_share_is_given_on():
    service = Service(Concurrency(10**6), 11)

    async def scene() -> None:
        daemon = Daemon(service, 2, Limits(64, 1024, rpm=1200))
        daemon.add(Task("endless", ENDLESS))
        async with running(daemon):
            await asyncio.sleep(30)
            daemon.kill(daemon.workers[0])
            await asyncio.sleep(90)

    play(scene, 11)
    assert service.rate(40, 120) >= 0.95 * 20
    assert in_any_minute(service.ok) <= 1200 * 1.02


@pytest.mark.parametrize("workers", [1, 2])
def test_two_daemons_keep_the_sum(workers):
    service = Service(Concurrency(10**6), 12)
    limits = Limits(64, 30, rpm=600, tpm=None)

    async def scene() -> None:
        daemons = [Daemon(service, workers, limits, daemons=2) for _ in range(2)]
        for daemon in daemons:
            daemon.add(Task("endless", ENDLESS))
        async with running(*daemons):
            await asyncio.sleep(120)

    play(scene, 12)
    assert in_any_minute(service.ok) <= 600 * 1.02
    assert service.rate(20, 120) >= 0.95 * 10
    assert service.most_in_flight <= 30


@pytest.mark.parametrize("workers", WORKERS)
def test_bytes_in_flight_hold_over_all_workers_and_an_oversize_record_goes_alone_in_its_own(workers):
    service = Service(Concurrency(10**6), 13)
    room = 1_000_000
    seen: list[tuple[int, list[int], list[int]]] = []

    async def scene() -> None:
        daemon = Daemon(service, workers, Limits(64, 1024, bytes=room))
        small = daemon.add(Task("small", ENDLESS, length=60_000))
        large = daemon.add(Task("large", 12, length=3 * room, chunk=4))
        async with running(daemon):
            for _ in range(6_000):
                await asyncio.sleep(0.02)
                gates = [worker.gate for worker in daemon.workers]
                flying = [gate.bytes_in_flight for gate in gates]
                seen.append((sum(flying), flying, [gate.in_flight for gate in gates]))
                if not large.open:
                    break
        assert not large.open
        assert small.done

    play(scene, 13)
    for total, flying, calls in seen:
        oversize = [bytes_ > room for bytes_ in flying]
        assert total <= room or any(oversize), (flying, calls)
        assert all(number == 1 for number, alone in zip(calls, oversize, strict=True) if alone), (
            flying,
            calls,
        )


def test_a_small_rpm_holds_from_the_first_call_of_many_workers_on():
    service = Service(Concurrency(10**6), 14)

    async def scene() -> None:
        daemon = Daemon(service, 8, Limits(64, 1024, rpm=12))
        async with running(daemon):
            await asyncio.sleep(20)  # the workers are told what holds before there is anything to send
            daemon.add(Task("endless", ENDLESS))
            await asyncio.sleep(180)

    play(scene, 14)
    begin = service.ok[0]
    assert sum(at < begin + 4.9 for at in service.ok) == 1
    assert in_any_minute(service.ok) <= 13  # 12, and one for what a timer runs late
    assert service.rate(begin, begin + 180) >= 0.9 * 12 / 60
