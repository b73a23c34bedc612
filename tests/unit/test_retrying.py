"""`-retry` of some records: what is opened, what stays; a crash at any step leaves all of it or nothing."""

import itertools
import json
from types import SimpleNamespace

import pytest
from journal_kit import T, Task, answer, error, missing

from batch_inferd.journal.names import chunk_journals
from batch_inferd.journal.reader import read_chunk
from batch_inferd.merge.index import ANSWER, ERROR
from batch_inferd.seams.files import Directory
from batch_inferd.store.taskdb import ChunkRow, TaskDB
from batch_inferd.store.writer import StoreWriter
from batch_inferd.tasks import retrying
from batch_inferd.tasks.chosen_rows import ChosenRows
from batch_inferd.tasks.retrying import Choice, finish_carrying, retry_chosen

CUT, EMPTY = b'{"text":"cu"}', b'{"text":""}'
ENDS = {
    1: "answer",
    2: "answer",
    3: "error",
    4: "answer",
    5: "missing",
    6: "answer",
    7: "answer",
    8: "answer",
}
WRONG = {2: "cut", 4: "empty", 6: "cut"}


class Crash(BaseException):
    """The process is gone."""


class Steps:
    """Counts what reaches the disk, and crashes instead of step number `at`."""

    def __init__(self):
        self.at = None
        self.done = 0

    def step(self):
        if self.done == self.at:
            raise Crash
        self.done += 1


class Shaky(Directory):
    """A folder whose changes are steps."""

    steps: Steps

    def open(self, *args, **more):
        self.steps.step()
        return super().open(*args, **more)

    def rename(self, *args, **more):
        self.steps.step()
        super().rename(*args, **more)

    def unlink(self, *args, **more):
        self.steps.step()
        super().unlink(*args, **more)

    def sync(self, *args, **more):
        self.steps.step()
        super().sync(*args, **more)


@pytest.fixture
def steps(monkeypatch):
    made = Steps()

    def stepping(name):
        real = getattr(retrying, name)

        def call(*args):
            made.step()
            return real(*args)

        monkeypatch.setattr(retrying, name, call)

    for name in ("write_all", "sync", "failpoint"):
        stepping(name)
    return made


class World:
    """A task of three chunks that has ended, and what `retrying` asks of it."""

    def __init__(self, root, steps):
        self.steps = steps
        self.kit = Task(root)
        self.writer = StoreWriter()
        self.kit.chunk(b'{"custom_id":"a"}\n{"custom_id":"b"}\n{"custom_id":"c"}\n')
        self.kit.journal(1, "aa", answer(1) + answer(2, body=CUT) + error(3))
        self.kit.chunk(b"{}\n{}\n{}\n")
        self.kit.journal(2, "aa", answer(4, body=EMPTY) + missing(5) + answer(6, body=CUT))
        self.kit.chunk(b"{}\n{}\n")
        self.kit.journal(3, "aa", answer(7) + answer(8))
        self.directory = Shaky(self.kit.directory.path)
        self.directory.steps = steps
        self.db = None

    async def open(self):
        """As the daemon does when it starts; the task."""
        if self.db is not None:
            await self.db.close()
        self.db = await TaskDB.open(self.writer, self.kit.directory.path)
        facts = await self.db.facts()
        if not facts:
            counts = [(2, 1, 0), (2, 0, 1), (2, 0, 0)]
            rows = [
                ChunkRow(
                    row.chunk, row.first_line, row.lines, 0, row.bytes, row.lines, 0, "", "done", *count,
                    0, 3 * count[0], 4 * count[0], 0,
                )
                for row, count in zip(self.kit.rows, counts, strict=True)
            ]  # fmt: skip
            await self.db.add_chunks(rows, round=0, state="completed", generation=1)
            facts = await self.db.facts()
        task = SimpleNamespace(
            db=self.db,
            directory=self.directory,
            facts=facts,
            round=facts["round"],
            context=SimpleNamespace(clock=SimpleNamespace(now=lambda: T + 50)),
            log=lambda *_: None,
        )

        async def reopened():
            task.round = task.facts["round"]
            await finish_carrying(task)  # as the driver does, before anything else

        task.reopened = reopened
        await finish_carrying(task)
        return task

    def files(self):
        return sorted(name for name in self.kit.directory.listdir("0000") if "jsonl" in name)

    async def ends(self, round_number):
        """How each line has ended, found by the journals, which the database must agree with."""
        found = {}
        for row in await self.db.page(0, 10):
            state = read_chunk(self.kit.directory, row.n, row.opened)
            counts = state.counts()
            assert {name: counts[name] for name in ("answered", "error", "missing")} == {
                "answered": row.answered, "error": row.error, "missing": row.missing,
            }  # fmt: skip
            assert (counts["tokens_in"], counts["tokens_out"]) == (row.tokens_in, row.tokens_out)
            assert row.opened in (0, round_number)
            found |= state.terminals
        return found

    async def finish(self, round_number):
        """Answer what is open, and merge."""
        rows = []
        for merged, row in zip(self.kit.rows, await self.db.page(0, 10), strict=True):
            state = read_chunk(self.kit.directory, row.n, row.opened)
            lines = range(row.first_line, row.first_line + row.lines)
            data = b"".join(
                answer(n, round=round_number, t=T + 99, body=b'"new"') for n in lines if not state.is_done(n)
            )
            if data:
                self.kit.journal(row.n, "ff", data)
            rows.append(merged._replace(opened=row.opened))
        self.kit.rows = rows
        result = self.kit.merge(generation=2, round=round_number)
        assert result.identity, result.problems
        return result

    async def close(self):
        await self.db.close()
        self.writer.close()
        self.directory.close()
        self.kit.close()


@pytest.fixture
async def world(tmp_path, steps):
    made = World(tmp_path, steps)
    yield made
    await made.close()


def wrong(line):
    body = json.loads(line)["response"]["body"]
    return None if "text" not in body else "cut" if body["text"] else "empty"


INVALID = Choice(ANSWER, wrong=wrong)


async def test_invalid_answers(world):
    task = await world.open()
    looked = []
    retried = await retry_chosen(task, INVALID, looked.append)
    assert (retried.records, dict(retried.wrong)) == (3, {"cut": 2, "empty": 1})
    assert looked == [1, 1, 1]
    assert await world.ends(1) == {n: end for n, end in ENDS.items() if n not in WRONG}
    assert (await world.db.facts())["state"] == "running"
    assert [row.state for row in await world.db.page(0, 10)] == ["ready", "ready", "done"]
    result = await world.finish(1)
    assert world.kit.ids("output.jsonl", 2) == ["1", "2", "4", "6", "7", "8"]
    assert world.kit.staged("output.jsonl", 2).count(b'"new"') == 3
    assert b'"text"' not in world.kit.staged("output.jsonl", 2)
    assert world.kit.ids("error_retry1.jsonl", 2) == ["3"]
    assert (result.tally.taken_back, result.tally.tokens_in) == (3, 27)
    assert not [name for name in world.files() if name.endswith(".next")]


async def test_no_day_loses_what_it_paid(world):
    task = await world.open()
    await retry_chosen(task, INVALID, lambda _: None)
    ((_, today),) = await world.db.spending()
    assert (today["answered"], today["tokens_in"], today["tokens_out"]) == (-3, 0, 0)


async def test_rows_and_chunks_choose_among_invalid_answers(world):
    task = await world.open()
    rows = ChosenRows({3}, {"a", "b"})  # row 3 is line 4; answer "a" is good
    retried = await retry_chosen(task, INVALID._replace(rows=rows), lambda _: None)
    assert dict(retried.wrong) == {"cut": 1, "empty": 1}
    assert rows.unmatched == 1
    assert await world.ends(1) == {n: end for n, end in ENDS.items() if n not in (2, 4)}
    await world.finish(1)


async def test_chunks_choose_too(world):
    task = await world.open()
    retried = await retry_chosen(task, INVALID._replace(chunks=[(1, 1), (3, 9)]), lambda _: None)
    assert retried.records == 1
    assert await world.ends(1) == {n: end for n, end in ENDS.items() if n != 2}


async def test_failed_ones_leave_answers_alone(world):
    task = await world.open()
    retried = await retry_chosen(task, Choice(ERROR), lambda _: None)
    assert (retried.records, dict(retried.wrong)) == (1, {})
    assert await world.ends(1) == {n: end for n, end in ENDS.items() if n != 3}
    assert not [name for name in world.files() if "back" in name]


async def test_nothing_is_wrong(world):
    task = await world.open()
    before = world.files()
    assert (await retry_chosen(task, Choice(ANSWER), lambda _: None)).records == 0
    assert world.files() == before
    assert (await world.db.facts())["round"] == 0


async def test_who_stops_it_finds_nothing_opened(world):
    task = await world.open()
    calls = iter((None, None))

    def looked(_):
        if next(calls, "stop") == "stop":
            raise KeyError("stop")

    with pytest.raises(KeyError):
        await retry_chosen(task, INVALID, looked)
    assert await world.ends(0) == ENDS
    assert not [name for name in world.files() if name.endswith(".next")]
    task = await world.open()
    assert (await retry_chosen(task, INVALID, lambda _: None)).records == 3
    assert not [name for name in world.files() if name.endswith(".next")]


async def test_two_rounds(world):
    task = await world.open()
    await retry_chosen(task, INVALID, lambda _: None)
    await world.finish(1)
    for row in await world.db.page(0, 10):
        await world.db.finish_chunk(row.n, read_chunk(world.kit.directory, row.n, row.opened).counts())
    task = await world.open()
    again = Choice(ANSWER, wrong=lambda line: "schema" if b'"new"' in line else None)
    assert (await retry_chosen(task, again, lambda _: None)).records == 3
    assert await world.ends(2) == {n: end for n, end in ENDS.items() if n not in WRONG}
    for row in (1, 2):
        assert len(chunk_journals(world.kit.directory, row)) == 6  # two words, two copies, two of answers
    for row in await world.db.page(0, 2):
        state = read_chunk(world.kit.directory, row.n, 2)
        data = b"".join(
            answer(n, round=2, t=T + 150, body=b'"newer"')
            for n in range(row.first_line, row.first_line + 3)
            if not state.is_done(n)
        )
        world.kit.journal(row.n, "99", data)
    world.kit.rows = [
        merged._replace(opened=row.opened)
        for merged, row in zip(world.kit.rows, await world.db.page(0, 10), strict=True)
    ]
    result = world.kit.merge(generation=3, round=2)
    assert result.identity, result.problems
    assert world.kit.staged("output.jsonl", 3).count(b'"newer"') == 3
    assert (result.tally.taken_back, result.tally.tokens_in) == (6, 36)


async def test_a_crash_at_every_step(tmp_path, steps):
    """Either nothing was opened, or exactly the chosen records are; and it can be gone on with."""
    seen = set()
    for at in itertools.count():
        steps.at, steps.done = None, 0
        root = tmp_path / str(at)
        root.mkdir()
        world = World(root, steps)
        task = await world.open()
        steps.at, steps.done = at, 0
        try:
            await retry_chosen(task, INVALID, lambda _: None)
            crashed = False
        except Crash:
            crashed = True
        steps.at = None
        task = await world.open()
        seen.add(task.round)
        opened = WRONG if task.round else ()
        assert await world.ends(task.round) == {n: end for n, end in ENDS.items() if n not in opened}
        assert task.facts.get("carried") is None
        if not task.round:
            assert (await retry_chosen(task, INVALID, lambda _: None)).records == 3
        assert not [name for name in world.files() if name.endswith(".next")]
        await world.finish(1)
        assert world.kit.staged("output.jsonl", 2).count(b'"new"') == 3
        await world.close()
        if not crashed:
            break
    assert seen == {0, 1}
    assert at > 20


async def test_a_crash_while_a_crash_is_mended(tmp_path, steps):
    for at in itertools.count():
        steps.at, steps.done = None, 0
        root = tmp_path / str(at)
        root.mkdir()
        world = World(root, steps)
        task = await world.open()

        async def reopened():
            raise Crash  # the round is committed

        task.reopened = reopened
        with pytest.raises(Crash):
            await retry_chosen(task, INVALID, lambda _: None)
        steps.at, steps.done = at, 0
        try:
            await world.open()
            crashed = False
        except Crash:
            crashed = True
        steps.at = None
        task = await world.open()
        assert task.round == 1
        assert await world.ends(1) == {n: end for n, end in ENDS.items() if n not in WRONG}
        await world.close()
        if not crashed:
            break
    assert at > 5


async def test_all_is_on_the_disk_before_the_round_is_committed(world, monkeypatch):
    events = []
    real_sync = retrying.sync
    monkeypatch.setattr(
        retrying, "sync", lambda fd, name: (real_sync(fd, name), events.append(("file", name)))
    )
    task = await world.open()
    real_folder, real_rename, real_commit = Shaky.sync, Shaky.rename, task.db.reopen_some

    def sync(self, name="."):
        events.append(("folder", name))
        real_folder(self, name)

    def rename(self, old, new):
        events.append(("rename", old))
        real_rename(self, old, new)

    async def commit(*args, **more):
        events.append(("commit", ""))
        await real_commit(*args, **more)

    monkeypatch.setattr(Shaky, "sync", sync)
    monkeypatch.setattr(Shaky, "rename", rename)
    monkeypatch.setattr(task.db, "reopen_some", commit)
    await retry_chosen(task, INVALID, lambda _: None)
    kinds = [kind for kind, _ in events]
    assert kinds == ["file", "folder"] * 4 + ["commit"] + ["rename"] * 4 + ["folder"]
    assert {name for kind, name in events if kind == "rename"} == {
        name for kind, name in events if kind == "file"
    }


def test_folders_of_before_a_crash_are_synced_too(tmp_path, steps):
    """What was renamed just before a crash is there, and may be gone again with the power."""
    for name in ("0000", "0001"):
        (tmp_path / name).mkdir()
    (tmp_path / "0000" / "chunk_0000001.back-abc.jsonl").write_bytes(b"")
    (tmp_path / "0001" / "chunk_0001001.abc.jsonl.next").write_bytes(b"")
    (tmp_path / "0001" / "chunk_0001002.def.jsonl.next").write_bytes(b"")
    synced = []

    class Watched(Directory):
        def sync(self, name="."):
            synced.append(name)
            super().sync(name)

    directory = Watched(tmp_path)
    retrying._put_in_place(directory, "abc")
    directory.close()
    assert sorted(synced) == ["0000", "0001"]
    names = sorted(path.name for path in (tmp_path / "0001").iterdir())
    assert names == ["chunk_0001001.abc.jsonl", "chunk_0001002.def.jsonl.next"]
