"""Cached tokens, from the answer to the journals, the sums of a chunk, and the days of task.db."""

import sqlite3

import pytest

from batch_inferd.backends.reply import Usage, read_body
from batch_inferd.journal.format import decode, encode_answer
from batch_inferd.journal.index import IndexBuilder, decode_index
from batch_inferd.store.migrations import MIGRATIONS
from batch_inferd.store.taskdb import USAGE, ChunkRow, TaskDB, set_counts
from batch_inferd.store.writer import StoreWriter

CHOICES = b'"choices":[{"finish_reason":"stop"}]'


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (b'{"prompt_tokens":10,"completion_tokens":2}', Usage(10, 2)),
        (b'{"prompt_tokens":10,"completion_tokens":2,"prompt_tokens_details":null}', Usage(10, 2)),
        (
            b'{"prompt_tokens":10,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":6}}',
            Usage(10, 2, 6),
        ),
        (
            b'{"input_tokens":10,"output_tokens":2,"input_tokens_details":{"cached_tokens":0}}',
            Usage(10, 2, 0),
        ),
        (b'{"prompt_tokens":10,"completion_tokens":2,"prompt_cache_hit_tokens":4}', Usage(10, 2, 4)),
        (b'{"prompt_tokens":10,"completion_tokens":2,"prompt_cache_hit_tokens":99}', Usage(10, 2, 10)),
        (b'{"prompt_tokens":10,"completion_tokens":2,"prompt_cache_hit_tokens":-1}', Usage(10, 2, 0)),
        (b'{"prompt_tokens":10,"completion_tokens":2,"prompt_tokens_details":[1,"cached"]}', Usage(10, 2)),
        (b'{"prompt_tokens_details":{"cached_tokens":6}}', Usage(None, None)),
    ],
)
def test_what_a_service_tells(usage, expected):
    assert read_body(b'{%b,"usage":%b}' % (CHOICES, usage)).usage == expected
    assert read_body(b'{"output":[1],"usage":%b}' % usage).usage == expected


def entry(**changes):
    fields = {"line": 1, "round": 0, "attempt": 1, "t": 1.0, "ms": 5, "tokens_in": 10, "tokens_out": 2}
    return encode_answer(**(fields | {"path": "online", "rec": b"{}"} | changes))


def test_the_journal_says_so_where_there_are_some():
    assert decode(entry(tokens_cached=6)).tokens_cached == 6
    assert entry(tokens_cached=0) == entry(tokens_cached=None) == entry()
    assert b"cached" not in entry()
    assert decode(entry()).tokens_cached == 0


def test_the_index_has_their_sum():
    builder = IndexBuilder(0)
    for line, cached in ((1, 6), (2, None), (3, 0), (4, 5)):
        builder.answer(line, 0, 300, 20, 5, 1, 10, 2, cached)
    line = builder.encode(1200, 0)
    assert decode_index(line).cached == 11


@pytest.fixture
async def store():
    writer = StoreWriter()
    yield writer
    writer.close()


def row(n):
    return ChunkRow(n, 1, 10, 0, 100, 10, 0, "", "ready", *[0] * 7)


def counts(n):
    return {"answered": n, **{name: n * at for at, name in enumerate(USAGE, 1)}}


async def test_days_add_up_to_the_chunks(store, tmp_path):
    db = await TaskDB.open(store, tmp_path)
    await db.add_chunks([row(1), row(2)])
    assert await db.spending() == []
    await db.finish_chunk(1, counts(3))
    await db.finish_chunk(1, counts(2))  # a damaged line was set aside
    await db.write(lambda c: c.execute("UPDATE spending SET day = '2020-01-01'"))
    await db.finish_chunk(2, counts(5))
    await db.write(lambda c: c.execute("UPDATE chunks SET state = 'ready'"))
    (first, old), (_, new) = await db.spending()
    assert (first, old, new) == ("2020-01-01", counts(2), counts(5))
    totals = (await db.totals())["ready"]
    assert {name: getattr(totals, name) for name in counts(1)} == counts(7)
    await db.close()


async def test_a_database_of_an_earlier_version(store, tmp_path):
    with sqlite3.connect(tmp_path / "task.db") as old:
        for script in MIGRATIONS[:3]:
            old.executescript(script)
        old.execute("PRAGMA user_version = 3")
        old.executemany("INSERT INTO facts VALUES (?, ?)", [("created", "86400.5"), ("ended", "259200.0")])
        old.execute("INSERT INTO chunks VALUES (1,1,10,0,100,10,0,'','done',9,1,0,0,50,60,2,0,NULL,'',0)")
    old.close()
    db = await TaskDB.open(store, tmp_path)
    ((day, found),) = await db.spending()
    assert day in ("1970-01-03", "1970-01-04", "1970-01-05")
    none = dict.fromkeys(counts(0), 0)
    assert found == none | {"answered": 9, "tokens_in": 50, "tokens_out": 60, "tokens_unknown": 2}
    await db.write(lambda c: set_counts(c, 1, {"answered": 10, "tokens_in": 55, "tokens_out": 60}))
    assert sum(one["tokens_in"] for _, one in await db.spending()) == 55
    await db.close()
