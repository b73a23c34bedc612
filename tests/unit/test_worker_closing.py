"""The end of a lease: whatever its files say, it is told once that it is sealed or given back."""

import asyncio
import errno
import json
import os
import zlib

import msgspec
import pytest
from worker_kit import FakeTransport, Folder, ManualClock, ask, make_plan

from batch_inferd.backends.online import Prepared
from batch_inferd.backends.transport import HttpReply
from batch_inferd.journal.format import INDEX
from batch_inferd.journal.index import KindCounter, decode_index
from batch_inferd.journal.names import chunk_journals
from batch_inferd.seams.events import Events
from batch_inferd.worker.bug import Bug
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
    assert isinstance(end.fault, Bug)
    assert end.fault.strerror == "ValueError('a bug')"


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


async def run_lease(folder, status=200, answer=ANSWER, slots=1):
    """A worker has the folder's chunk until it is sealed or given back; what it sent."""
    outbox = Outbox()
    worker = Worker(
        outbox, WriteGuard(), ManualClock(), FakeTransport(HttpReply(status, {}, answer)), Events()
    )
    running = asyncio.create_task(worker.run())
    worker.handle("plan", {"plan": msgspec.to_builtins(PLAN)})
    worker.handle("account", {"account": "acc-1", "slots": slots, "rate_per_s": None, "hold_until": None})
    worker.handle("lease", folder.lease())
    await asyncio.wait_for(outbox.ended.wait(), 30)
    worker.handle("shutdown", {"mode": "drain"})
    await asyncio.wait_for(running, 30)
    return outbox


def last_index(folder):
    """The index of the chunk's one journal, if its last line is one, and the bytes before it."""
    (name,) = chunk_journals(folder.directory, 1)
    data = (folder.path / name).read_bytes()
    begin = data.rfind(b"\n", 0, -1) + 1
    return (decode_index(data[begin:]) if data.startswith(INDEX, begin) else None), data[:begin]


@pytest.mark.parametrize(("status", "kind"), [(200, "answers"), (400, "errors")])
async def test_a_sealed_journal_ends_with_its_index(tmp_path, status, kind):
    folder = Folder(tmp_path)
    folder.add([ask(f"x {n}") for n in range(1, 21)])
    outbox = await run_lease(
        folder, status, ANSWER if status == 200 else b'{"error":{"message":"no"}}', slots=8
    )
    assert outbox.names() == ["sealed"]
    index, before = last_index(folder)
    counter = KindCounter()
    counter.feed(before, len(before))
    assert getattr(counter.kinds(), kind) == 20
    assert (index.bytes, index.checksum, index.lines) == (len(before), zlib.crc32(before), [1, 20])
    ids = [json.loads(before[begin:end])["custom_id"] for begin, end in zip(index.at, index.end, strict=True)]
    assert ids == [str(n) for n in range(1, 21)]
    (told,) = (params for name, params in outbox.sent if name == "sealed")
    assert told["bytes"] == (folder.path / told["journal"]).stat().st_size
    folder.directory.close()


async def test_without_room_for_an_index_there_is_none(folder, monkeypatch):
    monkeypatch.setenv("BATCH_INFER_FS_FAULTS", f"write:chunk_0000001.={errno.ENOSPC}@2")
    outbox = await run_lease(folder)
    assert outbox.names() == ["sealed"]
    assert last_index(folder)[0] is None
    assert len(folder.records("answer")) == 1


async def test_a_journal_that_breaks_at_its_index_is_a_fault(folder, monkeypatch):
    monkeypatch.setenv("BATCH_INFER_FS_FAULTS", f"write:0000/chunk_0000001.={errno.EIO}@2")
    monkeypatch.setattr(os, "ftruncate", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "no cut")))
    outbox = await run_lease(folder)
    assert outbox.names() == ["fault", "released"]
