"""The end of a lease: whatever its files say, it is told once that it is sealed or given back."""

import asyncio
import errno
import os

import msgspec
import pytest
from worker_kit import FakeTransport, Folder, ManualClock, ask, make_plan

from batch_inferd.backends.online import Prepared
from batch_inferd.backends.transport import HttpReply
from batch_inferd.seams.events import Events
from batch_inferd.worker.chunk import LeasedChunk
from batch_inferd.worker.closing import End, close_chunk
from batch_inferd.worker.core import Worker
from batch_inferd.worker.guard import WriteGuard
from batch_inferd.worker.opening import open_lease
from batch_inferd.worker.record import Lease

ANSWER = b'{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}'
PLAN = make_plan("http://service:80/v1")


@pytest.fixture
def folder(tmp_path):
    made = Folder(tmp_path)
    made.add([ask("x")])
    yield made
    made.directory.close()


def leased(folder):
    lease = Lease(**folder.lease())
    return LeasedChunk(lease, open_lease(lease), Prepared(PLAN), ManualClock(), WriteGuard())


def descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def late_error(monkeypatch):
    """Every close of a file of `leased` is done, and complains."""
    real = os.close

    def complain(fd):
        real(fd)
        raise OSError(errno.EDQUOT, "told at the close")

    def begin():
        monkeypatch.setattr(os, "close", complain)

    yield begin
    monkeypatch.undo()


async def test_an_error_at_the_close_is_a_fault(folder, late_error):
    before = descriptors()
    chunk = leased(folder)
    chunk.end("drained")
    late_error()
    end = await close_chunk(chunk)
    assert end.reason == "fault"
    assert end.fault is not None
    assert end.fault.errno == errno.EDQUOT
    assert descriptors() == before  # all were closed, although each complained


async def test_a_fault_is_told_once(folder, late_error):
    chunk = leased(folder)
    chunk.end("fault")
    late_error()
    assert await close_chunk(chunk) == End("fault", None)


async def test_a_folder_that_is_gone_stays_so(folder, late_error):
    chunk = leased(folder)
    folder.path.rename(folder.path.with_name("elsewhere"))
    late_error()
    assert await close_chunk(chunk) == End("gone", None)


async def test_a_bug_ends_the_lease_too(folder, monkeypatch):
    chunk = leased(folder)

    async def settle():
        raise ValueError("a bug")

    monkeypatch.setattr(chunk.journal, "settle", settle)
    end = await close_chunk(chunk)
    assert end.reason == "fault"
    assert "a bug" in str(end.fault)


class Outbox:
    def __init__(self):
        self.sent = []
        self.ended = asyncio.Event()

    def send(self, method, params):
        self.sent.append((method, params))
        if method in ("sealed", "released"):
            self.ended.set()

    def names(self):
        return [name for name, _ in self.sent if name in ("fault", "sealed", "released")]


@pytest.mark.parametrize("close", ["well", "badly"])
async def test_a_lease_ends_exactly_once(folder, monkeypatch, close):
    outbox, real = Outbox(), LeasedChunk.close

    def complain(chunk):
        real(chunk)
        raise OSError(errno.EIO, "told at the close")

    if close == "badly":
        monkeypatch.setattr(LeasedChunk, "close", complain)
    worker = Worker(outbox, WriteGuard(), ManualClock(), FakeTransport(HttpReply(200, {}, ANSWER)), Events())
    running = asyncio.create_task(worker.run())
    worker.handle("plan", {"plan": msgspec.to_builtins(PLAN)})
    worker.handle("account", {"account": "acc-1", "slots": 1, "rate_per_s": None, "hold_until": None})
    worker.handle("lease", folder.lease())
    await asyncio.wait_for(outbox.ended.wait(), 30)
    worker.handle("shutdown", {"mode": "drain"})
    await asyncio.wait_for(running, 30)
    assert outbox.names() == (["sealed"] if close == "well" else ["fault", "released"])
    assert len(folder.records("answer")) == 1
