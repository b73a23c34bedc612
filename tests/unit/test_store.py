"""task.db: what was awaited is committed, a failing write fails alone, damage is told apart."""

import asyncio
import errno
import sqlite3
import threading
from pathlib import Path

import pytest

from batch_inferd.store.migrations import SCHEMA_VERSION
from batch_inferd.store.taskdb import NAME, ChunkRow, Closed, Damaged, TaskDB, disk_errno
from batch_inferd.store.writer import StoreWriter


@pytest.fixture
def writer():
    writer = StoreWriter()
    yield writer
    writer.close()


def row(n: int, state: str = "ready", **counts: int) -> ChunkRow:
    values = {
        "answered": 0,
        "error": 0,
        "missing": 0,
        "retries": 0,
        "tokens_in": 0,
        "tokens_out": 0,
        "tokens_unknown": 0,
    }
    return ChunkRow(n, n * 10, 10, n * 100, 100, 9, 1, "c", state, **(values | counts))


async def test_what_was_awaited_survives(writer, tmp_path):
    db = await TaskDB.open(writer, tmp_path)
    await db.set_facts(uuid="u", state="running", nested={"a": [1, "二"]})
    await db.add_chunks([row(1), row(2)], position={"offset": 3})
    await db.close()
    db = await TaskDB.open(writer, tmp_path)
    assert await db.facts() == {
        "uuid": "u",
        "state": "running",
        "nested": {"a": [1, "二"]},
        "position": {"offset": 3},
    }
    assert await db.page(0, 10) == [row(1), row(2)]
    await db.close()


async def test_a_failing_write_fails_alone(writer, tmp_path):
    db = await TaskDB.open(writer, tmp_path)
    await db.add_chunks([row(1)])
    jobs = [db.set_facts(a=1), db.add_chunks([row(1)]), db.set_facts(b=2)]
    results = await asyncio.gather(*jobs, return_exceptions=True)
    assert [type(r) for r in results] == [type(None), sqlite3.IntegrityError, type(None)]
    assert await db.facts() == {"a": 1, "b": 2}
    await db.close()


async def test_many_writes_share_transactions(writer, tmp_path):
    db = await TaskDB.open(writer, tmp_path)
    statements: list[str] = []
    await writer.call(lambda: db._connection.set_trace_callback(statements.append))
    gate, held = threading.Event(), threading.Event()

    def hold():
        held.set()
        gate.wait(30)

    waiting = [asyncio.ensure_future(writer.call(hold))]
    await asyncio.to_thread(held.wait, 30)
    waiting += [asyncio.ensure_future(db.set_facts(**{f"k{n}": n})) for n in range(200)]
    await asyncio.sleep(0)  # all of them are queued behind the gate
    gate.set()
    await asyncio.gather(*waiting)
    assert statements.count("COMMIT") == 1
    assert len(await db.facts()) == 200
    await db.close()


async def test_leases(writer, tmp_path):
    db = await TaskDB.open(writer, tmp_path)
    await db.add_chunks([row(1), row(2), row(3, "done", error=2, missing=1)])
    await db.grant("l1", 1, "7:1.0", 5.0)
    with pytest.raises(sqlite3.IntegrityError):
        await db.grant("l2", 1, "7:1.0", 5.0)
    assert [r.n for r in await db.page(0, 9, "ready")] == [2]
    await db.end_lease("l1", 1, "done", "sealed", {"answered": 9, "retries": 4}, 6.0)
    totals = await db.totals()
    assert totals["done"].chunks == 2
    assert totals["done"].answered == 9
    await db.grant("l3", 2, "7:1.0", 7.0)
    await db.end_all_leases(8.0, {2: {"answered": 5}})
    assert (await db.totals())["ready"].answered == 5
    assert await db.reopen_failed(1) == 3
    assert [r.n for r in await db.page(0, 9, "ready")] == [2, 3]
    assert await db.reopen_failed(2) == 0
    assert (await db.facts())["round"] == 1
    await db.close()


async def test_publications(writer, tmp_path):
    db = await TaskDB.open(writer, tmp_path)
    assert await db.open_publication() is None
    await db.commit_publication(1, {"files": {"a": 1}}, 1.0)
    assert await db.open_publication() == (1, {"files": {"a": 1}})
    await db.finish_publication(1, 2.0, {"state": "completed"})
    assert await db.open_publication() is None
    await db.commit_publication(2, {}, 1.0)
    await db.drop_publication(2)
    assert await db.open_publication() is None
    await db.close()


@pytest.mark.parametrize("damage", ["header", "middle", "truncate", "text"])
async def test_a_damaged_database_is_refused_with_a_copy(writer, tmp_path, damage):
    db = await TaskDB.open(writer, tmp_path)
    await db.add_chunks([row(n) for n in range(1, 3000)])
    await db.close()
    path = tmp_path / NAME
    data = bytearray(path.read_bytes())
    if damage == "header":
        data[0:16] = b"\0" * 16
    elif damage == "middle":
        data[4096:8192] = b"\xff" * 4096
    elif damage == "truncate":
        data = data[: len(data) // 2]
    else:
        data = bytearray(b"not a database, but longer than a header " * 100)
    path.write_bytes(data)
    with pytest.raises(Damaged) as caught:
        await TaskDB.open(writer, tmp_path)
    assert caught.value.copy is not None
    assert Path(caught.value.copy).read_bytes() == data


async def test_a_newer_schema_is_refused(writer, tmp_path):
    db = await TaskDB.open(writer, tmp_path)
    await db.close()
    with sqlite3.connect(tmp_path / NAME) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(Damaged, match="newer version"):
        await TaskDB.open(writer, tmp_path)


async def test_it_is_for_its_owner_only(writer, tmp_path):
    db = await TaskDB.open(writer, tmp_path)
    assert (tmp_path / NAME).stat().st_mode & 0o077 == 0
    await db.close()


async def test_a_closed_task_never_ends_the_thread(writer, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    gone, other = await TaskDB.open(writer, tmp_path / "a"), await TaskDB.open(writer, tmp_path / "b")
    late = asyncio.ensure_future(gone.facts())  # queued before the close
    await asyncio.sleep(0)
    await gone.close()
    await gone.close()
    await late
    with pytest.raises(Closed):
        await gone.facts()
    with pytest.raises(sqlite3.ProgrammingError):  # past the flag, as from an old reference
        await writer.write(gone._connection, lambda db: db.execute("SELECT 1").fetchone())
    await other.set_facts(alive=True)
    assert await other.facts() == {"alive": True}
    await other.close()


async def test_a_full_disk_is_told_as_such_and_loses_nothing(writer, tmp_path):
    db = await TaskDB.open(writer, tmp_path)
    await db.set_facts(kept=1)
    await writer.call(lambda: db._connection.execute("PRAGMA max_page_count = 20").fetchone())
    results = await asyncio.gather(
        db.set_facts(small=1), db.set_facts(large="x" * 10**6), db.set_facts(small2=1), return_exceptions=True
    )
    assert errno.ENOSPC in {disk_errno(r) for r in results if isinstance(r, BaseException)}
    assert (await db.facts())["kept"] == 1
    await db.set_facts(again=1)
    await db.close()


async def test_open_chunks_are_found_by_their_index(writer, tmp_path):
    db = await TaskDB.open(writer, tmp_path)
    seen: list[str] = []
    await writer.call(lambda: db._connection.set_trace_callback(seen.append))
    await db.page(0, 10, "ready")
    query = next(text for text in seen if text.startswith("SELECT n"))
    plan = await writer.call(lambda: db._connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall())
    assert "chunks_open" in str(plan)
    await db.close()


async def test_half_an_emoji_is_stored_too(writer, tmp_path):
    db = await TaskDB.open(writer, tmp_path)
    await db.set_facts(reason={"text": "cut here: \ud83d"})  # as a service's message may end
    assert (await db.facts())["reason"] == {"text": "cut here: \ud83d"}
    await db.close()
