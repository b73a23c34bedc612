"""The index of a sealed journal: what the builder writes is what the journal holds, and damage is noticed."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from journal_kit import Task, answer, attempt, error, indexed, missing

from batch_inferd.journal import index as journal_index
from batch_inferd.journal.format import DamagedLine, seal
from batch_inferd.journal.index import IndexBuilder, KindCounter, Kinds, decode_index
from batch_inferd.journal.latencies import bucket_of, count_buckets
from batch_inferd.journal.reader import read_chunk
from batch_inferd.journal.scan import scan_journal

LINES = [
    attempt(7),
    answer(7, ms=12),
    attempt(5, failure="timeout", charged=False),
    error(5),
    missing(6),
    answer(9),
]


def test_what_an_index_says():
    data = indexed(LINES)
    index = decode_index(data.splitlines()[-1])
    assert index.bytes == len(b"".join(LINES))
    assert index.lines == [5, 3, 9, 1]
    assert index.line_numbers() == [5, 6, 7, 9]
    recs = [data[begin:end] for begin, end in zip(index.at, index.end, strict=True)]
    assert recs[1] == b""
    assert [json.loads(rec)["custom_id"] for rec in recs if rec] == ["5", "7", "9"]
    assert (index.errors, index.missing) == ({"bad_request": [5]}, [6])
    assert (index.attempts, index.failed, index.retries) == (1 + 1 + 4 + 1, 2, 1)
    assert index.failures == {"server": 1, "timeout": 1}
    assert index.tokens == (6, 8, 0)
    assert index.ms == (544, 532)
    assert dict(index.histogram()) == {bucket_of(12): 1, bucket_of(532): 1}


def test_tokens_that_were_not_told():
    lines = [answer(1, tokens_in=None), answer(2, tokens_out=None), answer(3, tokens_in=0, tokens_out=None)]
    assert decode_index(indexed(lines).splitlines()[-1]).tokens == (3, 4, 3)


def test_sums_of_tokens_may_be_large():
    lines = [answer(n, tokens_in=2**66) for n in (1, 2, 3, 4)]
    assert decode_index(indexed(lines).splitlines()[-1]).tokens == (2**68, 16, 0)


@pytest.mark.parametrize(
    "calls",
    [
        [],  # nothing has ended
        [("missing", 1, 1), ("missing", 1, 1)],
        [("answer", 1, 0, 300, 20, 5, 1, 3, 4), ("answer", 1, 300, 300, 20, 5, 1, 3, 4)],
    ],
)
def test_where_there_is_no_index(calls):
    builder = IndexBuilder(0)
    for name, *fields in calls:
        getattr(builder, name)(*fields)
    assert builder.encode(600, 0) is None


def test_too_many_records_have_none(monkeypatch):
    monkeypatch.setattr(journal_index, "MOST", 2)
    builder = IndexBuilder(0)
    builder.missing(1, 1)
    builder.missing(2, 1)
    assert builder.encode(100, 0) is not None
    builder.missing(3, 1)
    assert builder.encode(100, 0) is None
    builder = IndexBuilder(0)
    for line in range(1, 9):
        builder.answer(line, 0, 300, 20, 5, 1, 3, 4)
    assert builder.encode(100, 0) is None
    assert builder.records == 3  # nor are they held


def test_a_duration_is_never_negative():
    assert decode_index(indexed([answer(1, ms=-5)]).splitlines()[-1]).ms == (0, 0)


@given(st.integers(0, 2**40))
def test_every_bit_of_an_index_counts(seed):
    line = indexed(LINES).splitlines()[-1]
    at, bit = seed % len(line), seed // len(line) % 8
    damaged = line[:at] + bytes([line[at] ^ (1 << bit)]) + line[at + 1 :]
    with pytest.raises(DamagedLine):
        decode_index(damaged)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"lines":[5,3,9,1]', b'"lines":[5,3,9]'),
        (b'"lines":[5,3,9,1]', b'"lines":[5,3,9,0]'),
        (b'"lines":[5,3,9,1]', b'"lines":[5,3,9,2]'),
        (b'"at":[', b'"at":[1,'),
        (b'"at":[', b'"at":[-'),
        (b'"end":[', b'"end":[9'),
        (b'"buckets":[', b'"buckets":[5,'),
        (b'"buckets":[', b'"buckets":[5000,1,'),
        (b'"buckets":[', b'"buckets":[-1,1,'),
        (b'"round":0', b'"round":null'),
        (b'"k":"index"', b'"k":"answer"'),
    ],
)
def test_an_index_that_does_not_fit_together(old, new):
    line = indexed(LINES).splitlines()[-1]
    head = line[: -journal_index.TAIL]
    assert old in head
    decode_index(seal(head))
    with pytest.raises(DamagedLine):
        decode_index(seal(head.replace(old, new, 1)))


KINDS = {"answer": answer, "error": error, "missing": missing, "attempt": attempt}


@given(
    kinds=st.lists(st.sampled_from(sorted(KINDS)), max_size=12),
    cuts=st.lists(st.integers(1, 60), min_size=1, max_size=30),
)
def test_kinds_are_counted_in_any_blocks(kinds, cuts):
    data = b"".join(KINDS[kind](n) for n, kind in enumerate(kinds, 1))
    counter, at = KindCounter(), 0
    while at < len(data):
        size = cuts[at % len(cuts)]
        counter.feed(data[at : at + size], len(data[at : at + size]))
        at += size
    assert counter.kinds() == Kinds(*(kinds.count(kind) for kind in ("answer", "error", "missing")))
    whole = KindCounter()
    whole.feed(bytearray(data + b"beyond\n"), len(data))
    assert whole.kinds() == counter.kinds()


@given(st.binary(max_size=60))
def test_kinds_of_rubbish_are_nonsense_but_no_error(data):
    counter = KindCounter()
    counter.feed(data, len(data))
    counter.feed(data, len(data))


def test_buckets_are_counted_as_one_by_one():
    durations = [0, 1, 63, 64, 65, 1000, 1000, 10**9]
    found = count_buckets(durations)
    assert sum(found.values()) == len(durations)
    assert found[bucket_of(1000)] == 2


@pytest.fixture
def task(tmp_path):
    made = Task(tmp_path)
    made.directory.mkdir("0000")
    yield made
    made.close()


@pytest.mark.parametrize("block", [700, 1 << 20])  # an index that is longer than a block, or not
def test_readers_pass_over_an_index(task, block):
    data = indexed([answer(n) for n in range(1, 200)])
    path = task.journal(1, "aa", data)
    fd = os.open(path, os.O_RDONLY)
    try:
        assert [scanned.entry.line for scanned in scan_journal(fd, block)] == list(range(1, 200))
    finally:
        os.close(fd)
    state = read_chunk(task.directory, 1, 0, repair=True)
    assert (state.answered, state.quarantined, state.torn) == (199, 0, 0)
    path.write_bytes(data[:-30])
    assert read_chunk(task.directory, 1, 0, repair=True).torn == 1
    assert path.read_bytes() == data[: data.rindex(b'{"k":"index"')]
    path.write_bytes(data.replace(b'"at":[', b'"at":[1', 1))
    assert read_chunk(task.directory, 1, 0).quarantined == 1
