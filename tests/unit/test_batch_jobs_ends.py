"""Jobs that are cancelled or told to stop: what packs finishes, the rest is cut short."""

import asyncio
import os
import threading

import msgspec
import pytest
from batch_jobs_kit import batch_plan
from batch_runner_kit import BOUND_S, DOWNLOAD, Bench, Outbox, Stuck
from worker_kit import FakeTransport, ManualClock, settle

from batch_inferd.seams.events import Events
from batch_inferd.worker.batch import pack
from batch_inferd.worker.core import Worker
from batch_inferd.worker.guard import WriteGuard


@pytest.fixture
def slow_pack(monkeypatch):
    """Packing waits for `release`; `begun` counts."""

    class Slow:
        release = threading.Event()
        begun = threading.Semaphore(0)
        now = most = 0

    lock = threading.Lock()
    real = pack.Packer.run

    def run(self):
        with lock:
            Slow.now += 1
            Slow.most = max(Slow.most, Slow.now)
        Slow.begun.release()
        try:
            assert Slow.release.wait(BOUND_S)
            return real(self)
        finally:
            with lock:
                Slow.now -= 1

    monkeypatch.setattr(pack.Packer, "run", run)
    yield Slow
    Slow.release.set()


async def begun(slow):
    assert await asyncio.to_thread(slow.begun.acquire, timeout=BOUND_S)


class TestCancelling:
    async def test_a_transfer_is_cut_short(self, desk, bench):
        stuck = Stuck(desk)
        bench.begin("download", DOWNLOAD)
        await stuck.until(1)
        bench.jobs.on_cancel({"job": "j1"})
        assert (await bench.outbox.ended("j1"))["kind"] == "cancelled"
        assert os.listdir(desk.path / "batches") == []
        bench.jobs.on_cancel({"job": "j1"})
        assert len(bench.outbox.all("job_failed")) == 1

    async def test_a_pack_ends_at_its_next_look(self, desk, bench, slow_pack):
        bench.begin("pack", desk.pack_params())
        await begun(slow_pack)
        bench.jobs.on_cancel({"job": "j1"})
        assert bench.outbox.messages == []  # its thread is still there
        slow_pack.release.set()
        assert (await bench.outbox.ended("j1"))["kind"] == "cancelled"
        assert os.listdir(desk.path / "batches") == []

    async def test_two_threads_and_eight_transfers(self, desk, bench, slow_pack):
        stuck = Stuck(desk)
        for number in range(10):
            bench.begin("download", DOWNLOAD | {"file": f"batches/{number}"}, job=f"d{number}")
        for number in range(4):
            bench.begin("pack", desk.pack_params(prefix=f"batches/p{number}"), job=f"p{number}")
        await stuck.until(8)
        await begun(slow_pack)
        await begun(slow_pack)
        await settle()
        stuck.gate.set()
        slow_pack.release.set()
        for number in range(10):
            assert await bench.outbox.ended(f"d{number}") == {"bytes": 1}
        for number in range(4):
            assert "packs" in await bench.outbox.ended(f"p{number}")
        assert (stuck.most, slow_pack.most) == (8, 2)

    async def test_one_that_waits_for_its_turn(self, desk, bench):
        stuck = Stuck(desk)
        for number in range(9):
            bench.begin("download", DOWNLOAD | {"file": f"batches/{number}"}, job=f"d{number}")
        await stuck.until(8)
        bench.jobs.on_cancel({"job": "d8"})
        assert (await bench.outbox.ended("d8"))["kind"] == "cancelled"
        stuck.gate.set()
        assert [await bench.outbox.ended(f"d{n}") for n in range(8)] == [{"bytes": 1}] * 8
        assert await bench.run("download", DOWNLOAD, job="next") == {"bytes": 1}  # the turns are given back


class TestStopping:
    async def test_drain_finishes_what_packs_and_cancels_the_rest(self, desk, bench, slow_pack):
        stuck = Stuck(desk)
        bench.begin("download", DOWNLOAD, job="d")
        for name in ("p1", "p2", "p3"):
            bench.begin("pack", desk.pack_params(prefix=f"batches/{name}"), job=name)
        await stuck.until(1)
        await begun(slow_pack)
        await begun(slow_pack)
        bench.jobs.stop("drain")
        assert (await bench.outbox.ended("d"))["kind"] == "cancelled"
        assert (await bench.outbox.ended("p3"))["kind"] == "cancelled"
        assert (await bench.run("pack", desk.pack_params(), job="late"))["kind"] == "cancelled"
        assert not bench.jobs.idle
        slow_pack.release.set()
        assert "packs" in await bench.outbox.ended("p1")
        assert "packs" in await bench.outbox.ended("p2")

    async def test_abort_ends_all(self, desk, bench, slow_pack):
        bench.begin("pack", desk.pack_params())
        await begun(slow_pack)
        bench.jobs.stop("drain")
        bench.jobs.stop("abort")
        slow_pack.release.set()
        assert (await bench.outbox.ended("j1"))["kind"] == "cancelled"

    async def test_the_worker_ends_after_its_last_job(self, desk, slow_pack):
        outbox = Outbox()
        worker = Worker(outbox, WriteGuard(), ManualClock(), FakeTransport(), Events())
        running = asyncio.create_task(worker.run())
        bench = Bench(desk)
        bench.jobs = worker._batch
        worker.handle("plan", {"plan": msgspec.to_builtins(batch_plan())})
        worker._batch._providers._make = bench._make
        bench.begin("pack", desk.pack_params())
        await begun(slow_pack)
        worker.handle("shutdown", {"mode": "drain"})
        await settle()
        assert not running.done()
        slow_pack.release.set()
        assert "packs" in await outbox.ended("j1")
        async with asyncio.timeout(BOUND_S):
            await running
        assert desk.provider.closed == 1
