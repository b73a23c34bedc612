"""Groups: lines that come within milliseconds are one write, and fail together."""

from __future__ import annotations

import asyncio
import errno
import zlib

import pytest

from batch_inferd.journal.names import chunk_folder, journal_name
from batch_inferd.journal.writer import JournalWriter
from batch_inferd.seams.files import Directory
from batch_inferd.worker.chunkjournal import ChunkJournal
from batch_inferd.worker.guard import WriteGuard

LEASE = "a" * 32


@pytest.fixture
def directory(tmp_path):
    made = Directory(tmp_path)
    made.mkdir(chunk_folder(1))
    yield made
    made.close()


@pytest.fixture
def writes(monkeypatch):
    found: list[bytes] = []
    real = JournalWriter.append

    def append(self, data):
        found.append(data)
        real(self, data)

    monkeypatch.setattr(JournalWriter, "append", append)
    return found


def content(directory):
    return (directory.path / journal_name(1, LEASE)).read_bytes()


def write_soon(journal, data):
    """The offset, as a future that may fail."""
    settled = asyncio.get_running_loop().create_future()

    def settle(at, error):
        if error is None:
            settled.set_result(at)
        else:
            settled.set_exception(error)

    journal.write_soon(data, settle)
    return settled


async def test_one_write_for_many_and_everybody_learns_where_his_line_stands(directory, writes):
    journal = ChunkJournal(JournalWriter(directory, journal_name(1, LEASE)), WriteGuard(), strict=False)
    lines = [b"a" * n + b"\n" for n in range(1, 6)]
    group = [write_soon(journal, line) for line in lines]
    assert writes == []
    journal.append(b"alone\n")
    at_once = await journal.commit(b"at once\n")
    first = await asyncio.gather(*group)
    second = await asyncio.gather(write_soon(journal, b"x\n"), write_soon(journal, b"yy\n"))
    assert len(writes) == 4
    data = content(directory)
    assert data == b"alone\nat once\n" + b"".join(lines) + b"x\nyy\n"
    found = [at_once, *first, *second]
    for at, line in zip(found, [b"at once\n", *lines, b"x\n", b"yy\n"], strict=True):
        assert data[at : at + len(line)] == line
    assert journal.size == len(data)
    assert journal.checksum == zlib.crc32(data)
    await journal.settle()
    journal.close()


async def test_what_is_large_or_much_does_not_wait(directory, writes):
    journal = ChunkJournal(JournalWriter(directory, journal_name(1, LEASE)), WriteGuard(), strict=False)
    small = write_soon(journal, b"small\n")
    large = write_soon(journal, b"l" * 100_000 + b"\n")
    assert large.result() == 0
    assert not small.done()
    many = [write_soon(journal, b"m" * 60_000 + b"\n") for _ in range(9)]
    assert small.result() == 100_001
    assert all(one.done() for one in many)
    assert [len(data) for data in writes] == [100_001, 6 + 9 * 60_001]
    await journal.settle()
    journal.close()


async def test_a_write_that_fails_fails_for_all_of_its_group_only(directory, monkeypatch):
    journal = ChunkJournal(JournalWriter(directory, journal_name(1, LEASE)), WriteGuard(), strict=False)
    await journal.commit(b"before\n")
    monkeypatch.setenv("BATCH_INFER_FS_FAULTS", f"write:chunk_={errno.ENOSPC}")
    group = [write_soon(journal, b"lost\n") for _ in range(3)]
    failed = await asyncio.gather(*group, return_exceptions=True)
    assert [getattr(error, "errno", None) for error in failed] == [errno.ENOSPC] * 3
    monkeypatch.delenv("BATCH_INFER_FS_FAULTS")
    assert await write_soon(journal, b"after\n") == len(b"before\n")
    assert content(directory) == b"before\nafter\n"
    await journal.settle()
    journal.close()


async def test_strict_returns_when_it_is_on_the_disk(directory, monkeypatch):
    synced: list[int] = []
    real = JournalWriter.sync

    def sync(self):
        real(self)
        synced.append(self.size - self.unsynced)

    monkeypatch.setattr(JournalWriter, "sync", sync)
    journal = ChunkJournal(JournalWriter(directory, journal_name(1, LEASE)), WriteGuard(), strict=True)
    at = await asyncio.gather(*(journal.commit(b"line\n") for _ in range(4)))
    assert synced[-1] >= max(at) + len(b"line\n")
    assert not journal.needs_sync
    journal.close()
