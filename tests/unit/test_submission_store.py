"""Submissions in task.db: chunks follow their lines, and no line is ever in two live submissions."""

import sqlite3

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from batch_inferd.store.migrations import MIGRATIONS
from batch_inferd.store.submissions import ChunkEnd, NewSubmission, SubmissionStore, count_lines
from batch_inferd.store.taskdb import ChunkRow, TaskDB
from batch_inferd.store.writer import StoreWriter

COUNTS = {"retries": 0, "tokens_in": 0, "tokens_out": 0, "tokens_unknown": 0}


def chunk(n, lines=10, **more):
    return ChunkRow(
        n, 1 + (n - 1) * lines, lines, 0, 100, lines, 0, "", "ready", answered=0, error=0, missing=0,
        **COUNTS, **more,
    )  # fmt: skip


def end(n, *, answered=0, error=0, missing=0, lines=10, online=0):
    counts = COUNTS | {"answered": answered, "error": error, "missing": missing}
    return ChunkEnd(n, counts, lines - answered - error - missing, online)


@pytest.fixture
async def store(tmp_path):
    writer = StoreWriter()
    db = await TaskDB.open(writer, tmp_path)
    await db.add_chunks([chunk(1), chunk(2)])
    yield SubmissionStore(db)
    await db.close()
    writer.close()


def detail(**more):
    return {"file": "batches/x.jsonl", "bytes": 1, "requests": 1, "tokens": 1, "url": "", "model": ""} | more


async def states(store):
    return {row.n: (row.state, row.packed, row.path) for row in await store.chunks([1, 2])}


async def close(store, number, lines, ends, state="collected"):
    return await store.close(
        number, token=f"t{number}", state=state, upstream_id="b", input_ref="f", detail=detail(),
        lines=lines, ends=ends, now=2.0,
    )  # fmt: skip


async def test_a_chunk_is_leased_while_all_its_open_lines_travel(store):
    lines = {1: [(1, 10)], 2: [(11, 15)]}
    (number,), changes = await store.add([NewSubmission("t1", detail(), lines)], [end(1), end(2)], 1.0)
    assert await states(store) == {1: ("leased", 10, ""), 2: ("ready", 5, "")}
    assert [(change.before.state, change.after.state) for change in changes] == [
        ("ready", "leased"),
        ("ready", "ready"),
    ]
    assert await store.live_lines([1, 2]) == {1: [(1, 10)], 2: [(11, 15)]}
    assert [row.n for row in await store.to_pack(9, left_over=True)] == [2]
    await close(store, number, lines, [end(1, answered=10), end(2, answered=3)])
    assert await states(store) == {1: ("done", 0, ""), 2: ("ready", 0, "")}
    assert await store.live_lines([1, 2]) == {}
    assert await store.open() == []


async def test_online_lines_wait_until_no_batch_line_is_open(store):
    lines = {1: [(1, 5)]}
    others = {1: [(6, 10)]}
    new = [NewSubmission("t1", detail(), lines), NewSubmission("t2", detail(), others)]
    (one, two), _ = await store.add(new, [end(1)], 1.0)
    await close(store, one, lines, [end(1, answered=3, online=2)])
    assert (await states(store))[1] == ("leased", 5, "")
    await close(store, two, others, [end(1, answered=8, online=2)])
    assert (await states(store))[1] == ("ready", 0, "online")
    assert await store.set_apart() == {1}
    assert await store.to_pack(9, left_over=True) == []


async def test_a_dropped_submission_frees_its_lines_and_keeps_the_counts(store):
    lines = {1: [(1, 8)]}
    (number,), _ = await store.add([NewSubmission("t", detail(), lines)], [end(1, error=2)], 1.0)
    await close(store, number, lines, [], "dropped")
    (row, _) = await store.chunks([1, 2])
    assert (row.state, row.packed, row.error, row.since) == ("ready", 0, 2, 2.0)


async def test_tokens_are_unique(store):
    await store.add([NewSubmission("t", detail(), {1: [(1, 1)]})], [], 1.0)
    with pytest.raises(sqlite3.IntegrityError):
        await store.add([NewSubmission("t", detail(), {1: [(2, 2)]})], [], 1.0)
    assert len(await store.open()) == 1


async def test_pages_totals_and_refusals(store):
    for n in range(5):
        lines = {1: [(n + 1, n + 1)]}
        (number,), _ = await store.add([NewSubmission(f"t{n}", detail(family=7), lines)], [end(1)], 1.0)
        if n % 2:
            await store.close(
                number, token=f"t{n}", state="refused", upstream_id=None, input_ref=None,
                detail=detail(family=7, results={"answered": 3, "unknown": 2, "duplicate": 1}),
                lines=lines, ends=[], now=1.0,
            )  # fmt: skip
    assert await store.totals() == {"packed": 3, "refused": 2}
    assert await store.refusals(7) == 2
    assert await store.results() == {"answered": 6, "unknown": 4, "duplicate": 2, "unreadable": 0}
    assert [(row.id, row.state) for row in await store.first(2)] == [(1, "packed"), (2, "refused")]
    first = await store.page(None, 2)
    assert [row.id for row, _, _ in first] == [5, 4]
    assert [row.id for row, _, _ in await store.page(4, 9)] == [3, 2, 1]
    assert first[0][1:] == ([1], 1)


async def test_a_database_of_the_first_schema_is_brought_up_to_date(tmp_path):
    path = tmp_path / "task.db"
    with sqlite3.connect(path) as old:
        old.executescript(MIGRATIONS[0] + "; PRAGMA user_version = 1;")
        old.execute(
            "INSERT INTO chunks (n, first_line, lines, offset, bytes, records, blank, chain, state) "
            "VALUES (1, 1, 2, 0, 9, 2, 0, '', 'done')"
        )
        old.execute("INSERT INTO leases VALUES ('l', 1, 'w', 0.0, NULL, NULL)")
    old.close()
    writer = StoreWriter()
    db = await TaskDB.open(writer, tmp_path)
    try:
        (row,) = await db.page(0, 9)
        assert (row.state, row.packed, row.since, row.path) == ("done", 0, None, "")
        assert await db.leased_chunks() == [1]
    finally:
        await db.close()
        writer.close()


class Model(RuleBasedStateMachine):
    """Packs and closes at random; compares the chunks with a model of which line is where."""

    LINES, CHUNKS = 6, 3

    @initialize()
    def begin(self):
        import asyncio
        import tempfile

        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.writer = StoreWriter()
        from pathlib import Path

        self.db = self.wait(TaskDB.open(self.writer, Path(self.folder.name)))
        self.store = SubmissionStore(self.db)
        self.wait(self.db.add_chunks([chunk(n + 1, self.LINES) for n in range(self.CHUNKS)]))
        self.where = dict.fromkeys(range(1, self.LINES * self.CHUNKS + 1), "open")
        self.live = {}
        self.tokens = 0

    def wait(self, work):
        return self.loop.run_until_complete(work)

    def teardown(self):
        if hasattr(self, "db"):
            self.wait(self.db.close())
            self.writer.close()
            self.loop.close()
            self.folder.cleanup()

    def chunk_of(self, line):
        return 1 + (line - 1) // self.LINES

    def end_of(self, n):
        lines = [line for line in self.where if self.chunk_of(line) == n]
        count = {
            kind: sum(self.where[line] == kind for line in lines) for kind in ("answered", "error", "online")
        }
        return end(
            n, answered=count["answered"], error=count["error"], lines=self.LINES, online=count["online"]
        )

    @precondition(lambda self: any(where == "open" for where in self.where.values()))
    @rule(data=st.data())
    def pack(self, data):
        free = [line for line, where in self.where.items() if where == "open"]
        lines = data.draw(st.lists(st.sampled_from(free), min_size=1, unique=True))
        found = {}
        for line in sorted(lines):
            found.setdefault(self.chunk_of(line), []).append((line, line))
        self.tokens += 1
        ends = [self.end_of(n) for n in found]
        (number,), _ = self.wait(
            self.store.add([NewSubmission(f"t{self.tokens}", detail(), found)], ends, 1.0)
        )
        for line in lines:
            self.where[line] = number
        self.live[number] = found

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def collect(self, data):
        number = data.draw(st.sampled_from(sorted(self.live)))
        lines = self.live.pop(number)
        for ranges in lines.values():
            for line, _ in ranges:
                self.where[line] = data.draw(st.sampled_from(["answered", "error", "open", "online"]))
        self.wait(close(self.store, number, lines, [self.end_of(n) for n in lines]))

    @rule()
    def retry(self):
        """As `-retry`: failed lines of chunks that are done are open again."""
        self.wait(self.db.reopen_failed(1))
        for n in range(1, self.CHUNKS + 1):
            lines = [line for line in self.where if self.chunk_of(line) == n]
            if all(self.where[line] in ("answered", "error") for line in lines):
                self.where |= {line: "open" for line in lines if self.where[line] == "error"}

    @invariant()
    def chunks_follow_their_lines(self):
        if not hasattr(self, "store"):
            return
        for row in self.wait(self.store.chunks(range(1, self.CHUNKS + 1))):
            wheres = [where for line, where in self.where.items() if self.chunk_of(line) == row.n]
            travelling = sum(isinstance(where, int) for where in wheres)
            assert row.packed == travelling
            if "open" in wheres:
                expected = ("ready", "")
            elif travelling:
                expected = ("leased", "")
            elif "online" in wheres:
                expected = ("ready", "online")
            else:
                expected = ("done", "")
            assert (row.state, row.path) == expected
        held = self.wait(self.store.live_lines(range(1, self.CHUNKS + 1)))
        lines = [line for ranges in held.values() for line, _ in ranges]
        assert len(lines) == len(set(lines)) == sum(count_lines(r) for r in held.values())


TestModel = Model.TestCase
TestModel.settings = settings(
    max_examples=8, stateful_step_count=8, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
