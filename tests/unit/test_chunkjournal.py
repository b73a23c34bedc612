"""A lease's journal: what is recorded is in the kernel, and with `strict` on the disk."""

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


def content(directory):
    return (directory.path / journal_name(1, LEASE)).read_bytes()


async def test_everybody_learns_where_his_line_stands(directory):
    journal = ChunkJournal(JournalWriter(directory, journal_name(1, LEASE)), WriteGuard(), strict=False)
    lines = [b"a" * n + b"\n" for n in range(1, 6)]
    first = await asyncio.gather(*(journal.commit(line) for line in lines[:3]))
    journal.append(b"alone\n")
    second = await asyncio.gather(*(journal.commit(line) for line in lines[3:]))
    data = content(directory)
    assert data == b"".join([*lines[:3], b"alone\n", *lines[3:]])
    for at, line in zip([*first, *second], lines, strict=True):
        assert data[at : at + len(line)] == line
    assert journal.size == len(data)
    assert journal.checksum == zlib.crc32(data)
    await journal.settle()
    journal.close()


async def test_what_counts_is_in_the_kernel_and_a_turn_is_one_write(directory, monkeypatch):
    writes: list[bytes] = []
    real = JournalWriter.append

    def append(self, data):
        writes.append(data)
        real(self, data)

    monkeypatch.setattr(JournalWriter, "append", append)
    journal = ChunkJournal(JournalWriter(directory, journal_name(1, LEASE)), WriteGuard(), strict=False)
    recorded: list[bytes] = []

    async def record(line):
        at = await journal.commit(line)
        recorded.append(content(directory)[at : at + len(line)])

    lines = [b"%d paid for\n" % n for n in range(20)]
    await asyncio.gather(*map(record, lines))
    assert recorded == lines
    assert writes == [b"".join(lines)]
    large = [b"m" * 60_000 + b"\n" for _ in range(9)]
    await asyncio.gather(*map(record, large))
    assert recorded[20:] == large
    assert len(writes) > 2  # they did not all wait in memory
    await journal.settle()
    journal.close()


async def test_a_write_that_fails_fails_for_all_of_its_turn_only(directory, monkeypatch):
    journal = ChunkJournal(JournalWriter(directory, journal_name(1, LEASE)), WriteGuard(), strict=False)
    await journal.commit(b"before\n")
    monkeypatch.setenv("BATCH_INFER_FS_FAULTS", f"write:chunk_={errno.ENOSPC}")
    failed = await asyncio.gather(*(journal.commit(b"lost\n") for _ in range(3)), return_exceptions=True)
    assert [getattr(error, "errno", None) for error in failed] == [errno.ENOSPC] * 3
    monkeypatch.delenv("BATCH_INFER_FS_FAULTS")
    assert await journal.commit(b"after\n") == len(b"before\n")
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
