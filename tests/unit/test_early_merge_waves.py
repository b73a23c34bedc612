"""The early merge draws chunks in waves: none before it is done, and none whose journals it does not know."""

import asyncio
import errno
import threading
from types import SimpleNamespace

import journal_kit as kit
import pytest

from batch_inferd.merge.merge import End, merge_task
from batch_inferd.merge.report import Header
from batch_inferd.store.taskdb import ChunkRow
from batch_inferd.tasks import early

CHUNKS = 1100


class Waves:
    """A task of one record a chunk, of which so many are done; stands for its database, too."""

    def __init__(self, root):
        self.kit = kit.Task(root)
        for n in range(1, CHUNKS + 1):
            self.kit.chunk(b'{"messages":[],"n":%d}\n' % n)
        self.done = 0
        self.on_page = lambda after: None
        self.merged = 0
        self.more = threading.Event()
        self.run = run = early._Run.__new__(early._Run)
        run._task, run._more, run._end = SimpleNamespace(db=self), self.more, None
        run._loop = asyncio.get_running_loop()
        run._stop = early._Stop(self.more)
        self.changed = asyncio.Event()
        self.job = asyncio.ensure_future(asyncio.to_thread(self._merge))
        self.job.add_done_callback(lambda _: self.changed.set())

    def _merge(self):
        return merge_task(
            self.kit.directory, self.kit.merged, self.run._rows, generation=1, round=0,
            end=self.run._the_end, progress=self._count, stop=self.run._stop,
        )  # fmt: skip

    def _count(self, chunks):
        self.merged = chunks
        self.run._loop.call_soon_threadsafe(self.changed.set)

    async def page(self, after, limit):
        self.on_page(after)
        return [self._row(row) for row in self.kit.rows[after : after + limit]]

    def _row(self, row):
        done = row.chunk <= self.done
        state, answered = ("done", 1) if done else ("leased", 0)
        return ChunkRow(
            row.chunk, row.first_line, 1, 0, row.bytes, 1, 0, "", state, answered, 0, 0, 0, 3, 4, 0
        )

    def finish(self, upto):
        for n in range(self.done + 1, upto + 1):
            self.kit.journal(n, "aa", kit.answer(n))
        self.done = upto

    async def until(self, chunks):
        async with asyncio.timeout(60):
            while self.merged < chunks and not self.job.done():
                self.changed.clear()
                await self.changed.wait()

    def end(self):
        self.run._end = End(Header("t", "uuid", "completed", kit.T, kit.T + 60))
        self.more.set()


@pytest.fixture
async def waves(tmp_path):
    made = Waves(tmp_path)
    yield made
    made.run._stop.set()
    await asyncio.wait([made.job])
    made.kit.close()


async def test_chunks_that_end_while_a_page_is_merged_have_their_journals(waves):
    waves.finish(50)
    waves.more.set()
    await waves.until(50)
    waves.finish(1050)  # the straggler has ended, those behind it long before
    waves.on_page = lambda after: waves.finish(1080) if after == 1050 else None
    waves.more.set()
    await waves.until(1080)
    assert waves.merged == 1080
    waves.finish(CHUNKS)
    waves.end()
    result = await waves.job
    assert (result.identity, result.counts.output) == (True, CHUNKS)


async def test_a_failure_in_the_last_chunk_of_a_wave_ends_it(waves, monkeypatch):
    monkeypatch.setenv("BATCH_INFER_FS_FAULTS", f"open:chunk_0000050.aa={errno.EIO}")
    waves.finish(50)
    waves.more.set()
    async with asyncio.timeout(30):
        with pytest.raises(OSError, match="Input/output"):
            await waves.job
    assert list(waves.kit.merged.path.iterdir()) == []


async def test_giving_up_is_waited_for_even_by_who_comes_second():
    out = threading.Event()
    task = SimpleNamespace(rests_for=lambda _: False)
    merge = early.EarlyMerge(task)

    class Run:
        failed = False

        async def stop(self):
            await asyncio.to_thread(out.wait, 30)

    merge._run = Run()
    first = asyncio.create_task(merge.give_up())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    second = asyncio.create_task(merge.give_up())
    await asyncio.sleep(0)
    assert not second.done()
    out.set()
    await second
