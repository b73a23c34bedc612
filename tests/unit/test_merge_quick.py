"""The quick way through a sealed journal: the same as the slow way, and only where nothing is wrong."""

import os
import re
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_kit import T, Task, answer, attempt, error, indexed, missing, what

from batch_inferd.journal.format import TAIL, seal
from batch_inferd.journal.names import chunk_name
from batch_inferd.merge import chunk, quick
from batch_inferd.merge.chunk import ChunkMerger, Sealed
from batch_inferd.merge.index import Terminals

INPUT = b'{"n":1}\n\n{"n":3}\n{"n":4}\n'  # line 2 is blank
JOURNAL = [attempt(3), answer(4, ms=7), error(3), answer(1)]
ENDED = {"answer": answer, "error": error, "missing": missing}


@pytest.fixture
def task(tmp_path):
    made = Task(tmp_path)
    yield made
    made.close()


@pytest.fixture
def ways(monkeypatch):
    """How many chunks went the slow way, and how many the quick one."""
    found = {"slow": 0, "quick": 0}
    read, write = Terminals.read, ChunkMerger._write_verified

    def slow(self, journals):
        found["slow"] += 1
        read(self, journals)

    def fast(self, ready, journal):
        found["quick"] += 1
        return write(self, ready, journal)

    monkeypatch.setattr(Terminals, "read", slow)
    monkeypatch.setattr(ChunkMerger, "_write_verified", fast)
    return found


def outcome(task, **options):
    """All that a merge says and writes."""
    result = task.merge(**options)
    round_now = options.get("round", 0)
    names = ("output.jsonl", f"error_retry{round_now}.jsonl", "missing_records.jsonl")
    report = task.report()
    return result.problems, [task.staged(name) for name in names], report


def both(task, **options):
    """The outcome of the quick way where there is one, and that of the slow way."""
    found = outcome(task, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quick, "INDEX", b"nothing begins so")
        return found, outcome(task, **options)


@settings(max_examples=80, deadline=None)
@given(
    kinds=st.lists(
        st.sampled_from(["answer", "answer", "error", "missing", "blank"]), min_size=1, max_size=20
    ),
    attempts=st.lists(st.tuples(st.integers(1, 20), st.booleans()), max_size=5),
    in_memory=st.booleans(),
    data=st.data(),
)
def test_both_ways_agree(*, tmp_path_factory, kinds, attempts, in_memory, data):
    task = Task(tmp_path_factory.mktemp("both"))
    task.chunk(b"".join(b" \n" if kind == "blank" else b'{"n":%d}\n' % n for n, kind in enumerate(kinds, 1)))
    lines = [
        ENDED[kind](n, **data.draw(EXTRA[kind])) for n, kind in enumerate(kinds, 1) if kind != "blank"
    ] + [attempt(n, charged=charged) for n, charged in attempts if n <= len(kinds)]
    task.journal(1, "aa", indexed(data.draw(st.permutations(lines))))
    with pytest.MonkeyPatch.context() as patch:
        if not in_memory:
            patch.setattr(quick, "IN_MEMORY", 0)
        found, slow = both(task)
    task.close()
    assert found == slow


EXTRA = {
    "answer": st.fixed_dictionaries(
        {
            "ms": st.integers(0, 10**6),
            "tokens_in": st.none() | st.integers(0, 9),
            "tokens_out": st.none() | st.integers(0, 9),
            "attempt": st.integers(1, 5),
            "body": st.sampled_from([b"1", b'{"x":"\\n"}', b'"' + b"y" * 3000 + b'"']),
        }
    ),
    "error": st.fixed_dictionaries({"failure": st.sampled_from(["server", "too_large"])}),
    "missing": st.just({}),
}


@pytest.mark.parametrize("in_memory", [quick.IN_MEMORY, 0])
def test_a_sealed_journal_goes_the_quick_way(task, ways, monkeypatch, in_memory):
    monkeypatch.setattr(quick, "IN_MEMORY", in_memory)
    task.chunk(INPUT, Sealed(3, 2, 1, 0, 1))
    task.journal(1, "aa", indexed(JOURNAL))
    task.chunk(b"{}\n" * 300)
    task.journal(2, "aa", indexed([answer(n) for n in range(304, 4, -1)]))
    result = task.merge()
    assert result.problems == []
    assert ways == {"slow": 0, "quick": 2}
    assert task.ids("output.jsonl") == ["1", "4", *map(str, range(5, 305))]
    assert task.ids("error_retry0.jsonl") == ["3"]
    assert (result.tally.retries, result.tally.latencies.count) == (1, 302)
    assert task.report()["chunks"][0]["retries"] == 1


@settings(max_examples=120, deadline=None)
@given(at=st.integers(0, 10**6), flip=st.integers(1, 255), in_memory=st.booleans())
def test_no_damaged_byte_is_believed(tmp_path_factory, at, flip, in_memory):
    data = indexed(JOURNAL)
    at %= len(data)
    task = Task(tmp_path_factory.mktemp("damage"))
    task.chunk(INPUT)
    task.journal(1, "aa", data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ChunkMerger, "_write_verified", None)
        if not in_memory:
            patch.setattr(quick, "IN_MEMORY", 0)
        found, slow = both(task)
    task.close()
    assert found == slow
    assert found[2]["quarantined"] + found[2]["torn"] >= 1


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_torn_index_is_a_torn_line(task, ways, cut):
    task.chunk(INPUT)
    task.journal(1, "aa", indexed(JOURNAL)[:-cut])
    result = task.merge()
    assert result.identity
    assert (result.tally.torn, ways) == (1, {"slow": 1, "quick": 0})


WHOLE = indexed(JOURNAL)


@pytest.mark.parametrize(
    "journals",
    [
        {"aa": b"".join(JOURNAL)},
        {"aa": WHOLE, "bb": b""},
        {"aa": WHOLE, "bb": attempt(1)},
        {"aa": WHOLE + attempt(1)},
        {"aa": WHOLE + WHOLE[len(b"".join(JOURNAL)) :]},  # an index of more than stands before it
        {"aa": attempt(1) + WHOLE},
        {"aa": b"".join(JOURNAL[1:]) + WHOLE[len(b"".join(JOURNAL)) :]},
        {"aa": WHOLE[len(b"".join(JOURNAL)) :]},
        {"aa": b""},
        {"aa": b"\n"},
        {},
        {"aa": indexed([*JOURNAL, answer(2)])},  # of the blank line
        {"aa": indexed(JOURNAL[:-1])},
        {"aa": indexed([*JOURNAL[:-1], answer(9)])},
        {"aa": indexed([*JOURNAL, error(1)])},
    ],
)
def test_anything_else_goes_the_slow_way(task, ways, journals):
    task.chunk(INPUT)
    for lease, data in journals.items():
        task.journal(1, lease, data)
    found, slow = both(task)
    assert found == slow
    assert ways["quick"] == 0


def test_an_index_that_lies_is_not_believed(task, ways):
    """Its own checksums fit, and the lines are those of the input: only counting shows it."""
    task.chunk(b"{}\n{}\n")
    honest = [answer(1), answer(2)]
    tail = indexed([answer(1), error(2)])[len(answer(1) + error(2)) :]
    data = b"".join(honest)
    lie = (
        tail[: -TAIL - 1]
        .replace(b'"bytes":%d' % len(answer(1) + error(2)), b'"bytes":%d' % len(data))
        .replace(b'"checksum":%d' % crc32(answer(1) + error(2)), b'"checksum":%d' % crc32(data))
    )
    task.journal(1, "aa", data + seal(lie))
    result = task.merge()
    assert (result.counts.output, result.counts.error) == (2, 0)
    assert ways == {"slow": 1, "quick": 0}


@pytest.mark.parametrize(
    "place",
    [
        (rb'"at":\[\d+,', b'"at":[99999999,'),
        (rb'"end":\[\d+,', b'"end":[99999999,'),
        (rb'"at":\[\d+,', b'"at":[-9,'),
    ],
)
def test_an_index_that_points_outside_is_not_believed(task, ways, place):
    task.chunk(b"{}\n{}\n")
    honest = answer(1) + answer(2)
    tail = indexed([answer(1), answer(2)])[len(honest) :]
    lie, changed = re.subn(*place, tail[: -TAIL - 1])
    assert changed == 1
    task.journal(1, "aa", honest + seal(lie))
    result = task.merge()
    assert (result.counts.output, result.counts.error) == (2, 0)
    assert ways == {"slow": 1, "quick": 0}


@pytest.mark.parametrize("sealed", [Sealed(3, 3, 0, 0, 1), Sealed(4, 3, 1, 0, 0)])
def test_other_counts_than_the_databases_are_told(task, ways, sealed):
    task.chunk(INPUT, sealed)
    task.journal(1, "aa", WHOLE)
    assert what(task.merge()) == [(1, None, "sealed_counts")]
    assert ways == {"slow": 1, "quick": 0}


def test_a_changed_chunk_file_is_told(task, ways):
    task.chunk(INPUT)
    task.journal(1, "aa", WHOLE)
    (task.directory.path / chunk_name(1)).write_bytes(INPUT + b"\n")
    assert what(task.merge())[0] == (1, None, "chunk_file")
    assert ways == {"slow": 1, "quick": 0}


@pytest.mark.parametrize(
    ("opened", "state", "way"),
    [
        (None, "completed", "slow"),
        (0, "completed", "quick"),
        (1, "completed", "slow"),
        (1, "cancelled", "quick"),
    ],
)
def test_what_failed_in_an_earlier_round(task, ways, opened, state, way):
    task.chunk(INPUT)
    task.rows[0] = task.rows[0]._replace(opened=opened)
    task.journal(1, "aa", WHOLE)
    found, slow = both(task, round=1, state=state)
    assert found == slow
    assert ways[way] == 1 + (way == "slow")


def test_answers_of_an_earlier_round_are_quick(task, ways):
    task.chunk(INPUT)
    task.journal(1, "aa", indexed([answer(4), answer(3, t=T + 1), answer(1)]))
    assert task.merge(round=3).identity
    assert ways == {"slow": 0, "quick": 1}


def test_what_is_not_taken_is_given_back(task, monkeypatch):
    """However a merge ends, no descriptor is left open."""
    for n in range(1, 9):
        task.chunk(b"{}\n")
        task.journal(n, "aa", indexed([answer(n)]))
    before = len(os.listdir("/proc/self/fd"))
    assert task.merge().identity

    def fail(*_, **__):
        raise OSError("no more")

    for owner, name in ((ChunkMerger, "merge_chunk"), (chunk, "verify"), (chunk, "find_lines")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            with pytest.raises(OSError, match="no more"):
                task.merge()
        assert len(os.listdir("/proc/self/fd")) == before
    monkeypatch.setenv("BATCH_INFER_FS_FAULTS", "open:chunk_0000005.aa=5")
    with pytest.raises(OSError, match="planned"):
        task.merge()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_large_journal_that_shrinks_is_an_error(task, monkeypatch):
    monkeypatch.setattr(quick, "IN_MEMORY", 0)
    task.chunk(b"{}\n")
    path = task.journal(1, "aa", indexed([answer(1)]))
    write = ChunkMerger._write_verified

    def shrink(self, ready, journal):
        path.write_bytes(b"")
        return write(self, ready, journal)

    monkeypatch.setattr(ChunkMerger, "_write_verified", shrink)
    with pytest.raises(OSError, match="shorter"):
        task.merge()


def test_the_last_line_is_found_however_long(task, ways, monkeypatch):
    monkeypatch.setattr(quick, "IN_MEMORY", 0)
    monkeypatch.setattr(quick, "_TAIL", 50)
    task.chunk(b"{}\n" * 100)
    data = indexed([answer(n) for n in range(1, 101)])
    task.journal(1, "aa", data)
    assert task.merge().identity
    monkeypatch.setattr(quick, "_INDEX_BYTES", 60)
    assert task.merge().identity
    assert ways == {"slow": 1, "quick": 1}
