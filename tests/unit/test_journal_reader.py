"""Reading a chunk's journals: torn, damaged, doubled and from earlier rounds."""

import errno
import json
import os
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_kit import T, Task, answer, attempt, error, missing

from batch_inferd.journal.names import (
    chunk_folder,
    chunk_journals,
    chunk_name,
    journal_name,
    list_journals,
    quarantine_name,
)
from batch_inferd.journal.reader import LineState, read_chunk
from batch_inferd.journal.scan import scan_journal
from batch_inferd.lines import BLOCK

GOLDEN = (
    attempt(1) + answer(1, attempt=2) + error(2, raw=b"\xff") + missing(3) + answer(4, body=b'"\xe2\x80\xa8"')
)


@pytest.fixture
def task(tmp_path):
    made = Task(tmp_path)
    made.directory.mkdir("0000")
    yield made
    made.close()


def test_names():
    assert [chunk_folder(n) for n in (1, 1000, 1001, 12_345_678)] == ["0000", "0000", "0001", "12345"]
    assert chunk_name(7) == "0000/chunk_0000007.jsonl"
    assert journal_name(1001, "0af") == "0001/chunk_0001001.0af.jsonl"
    assert chunk_name(12_345_678) == "12345/chunk_12345678.jsonl"


def test_only_journals_are_listed(task):
    for name in (
        chunk_name(1), journal_name(1, "b"), journal_name(1, "a"), journal_name(2, "c"), quarantine_name(1),
        "0000/chunk_0000001.a.jsonl.tmp", "0000/.chunk_0000001.a.jsonl", "0000/chunk_1.a.jsonl",
    ):  # fmt: skip
        (task.directory.path / name).write_bytes(b"")
    assert list_journals(task.directory, "0000") == {
        1: [journal_name(1, "a"), journal_name(1, "b")],
        2: [journal_name(2, "c")],
    }
    assert chunk_journals(task.directory, 1) == [journal_name(1, "a"), journal_name(1, "b")]
    assert chunk_journals(task.directory, 3) == chunk_journals(task.directory, 99_001) == []
    assert list_journals(task.directory, "0099") == {}


def test_what_a_chunk_state_says(task):
    task.journal(
        1,
        "aa",
        attempt(5, 1, t=T)
        + attempt(5, 2, t=T + 2, charged=False, failure="rate_limit", status=429, strikes=1)
        + attempt(6, 1) + answer(6, attempt=2) + answer(7, tokens_in=None) + error(8) + missing(9),
    )  # fmt: skip
    task.journal(1, "bb", attempt(5, 3, t=T + 9, failure="timeout", status=None, message="late", outages=2))
    state = read_chunk(task.directory, 1, 0)
    assert (state.answered, state.error, state.missing) == (2, 1, 1)
    assert state.terminals == {6: "answer", 7: "answer", 8: "error", 9: "missing"}
    assert [state.is_done(line) for line in (5, 6, 9, 10)] == [False, True, True, False]
    assert state.state(5) == LineState(3, 2, 1, 2, T + 10, "timeout", None, "late", T + 9)
    assert state.state(10) == LineState()
    assert list(state.open_lines) == [5]
    assert (state.retries, dict(state.failures)) == (3, {"server": 2, "rate_limit": 1, "timeout": 1})
    assert (state.tokens_in, state.tokens_out, state.tokens_unknown) == (3, 8, 1)
    assert (state.extras, state.quarantined, state.torn) == (0, 0, 0)


def test_the_last_attempt_is_the_latest_whatever_its_journal_is_called(task):
    task.journal(1, "zz", attempt(1, 1, t=T, failure="server"))
    task.journal(1, "aa", attempt(1, 2, t=T + 5, failure="timeout", not_before=T + 60))
    state = read_chunk(task.directory, 1, 0).state(1)
    assert (state.failure, state.not_before, state.attempts) == ("timeout", T + 60, 2)


def test_rounds(task):
    task.journal(1, "aa", attempt(1) + error(1) + missing(2) + answer(3) + error(4))
    task.journal(1, "bb", attempt(1, 1, round=1, t=T + 5, failure="timeout") + error(4, round=1))
    state = read_chunk(task.directory, 1, 1)
    assert state.terminals == {3: "answer", 4: "error"}
    assert (state.state(1).attempts, state.state(1).charged, state.state(1).failure) == (1, 1, "timeout")
    assert state.retries == 2
    assert state.extras == 0
    assert read_chunk(task.directory, 1, 0).terminals == {1: "error", 2: "missing", 3: "answer", 4: "error"}


@pytest.mark.parametrize("order", [("aa", "bb"), ("bb", "aa")])
def test_extras(task, order):
    task.journal(1, order[0], answer(1) + error(2) + error(3))
    task.journal(1, order[1], answer(1) + answer(2) + missing(3))
    state = read_chunk(task.directory, 1, 0)
    assert (state.terminals[1], state.terminals[2]) == ("answer", "answer")
    assert state.extras == 3


def test_a_chunk_without_journals(task):
    assert read_chunk(task.directory, 1, 0, repair=True).terminals == {}
    assert read_chunk(task.directory, 5000, 0).terminals == {}  # nor a folder


def lines_of(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        return [scanned.entry and scanned.entry.line for scanned in scan_journal(fd)]
    finally:
        os.close(fd)


def test_cut_at_every_byte(task):
    whole = [at + 1 for at, byte in enumerate(GOLDEN) if byte == 0x0A]
    for cut in range(len(GOLDEN) + 1):
        path = task.journal(1, "aa", GOLDEN[:cut])
        kept = max((end for end in whole if end <= cut), default=0)
        looked = read_chunk(task.directory, 1, 0)
        assert path.read_bytes() == GOLDEN[:cut]  # looking changes nothing
        repaired = read_chunk(task.directory, 1, 0, repair=True)
        assert path.read_bytes() == GOLDEN[:kept]
        assert looked.torn == repaired.torn == (kept != cut)
        assert looked.terminals == repaired.terminals
        assert len(looked.terminals) == sum(1 for end in whole[1:] if end <= cut)
        assert looked.quarantined == 0
    assert not (task.directory.path / quarantine_name(1)).exists()


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, len(GOLDEN) - 1), flip=st.integers(1, 255))
def test_a_flipped_byte_costs_its_own_line_only(tmp_path_factory, at, flip):
    path = tmp_path_factory.mktemp("flip") / "j"
    path.write_bytes(GOLDEN[:at] + bytes([GOLDEN[at] ^ flip]) + GOLDEN[at + 1 :])
    hit = GOLDEN.count(b"\n", 0, at)
    if GOLDEN[at] == 0x0A:
        good = [1, 1, 2, 3, 4][:hit] + [1, 1, 2, 3, 4][hit + 2 :]  # two lines became one
    else:
        good = [1, 1, 2, 3, 4][:hit] + [1, 1, 2, 3, 4][hit + 1 :]
    assert [line for line in lines_of(path) if line] == good


@settings(max_examples=60, deadline=None)
@given(lines=st.lists(st.integers(1, 5000), max_size=8), block=st.integers(700, 3000), cut=st.integers(0, 40))
def test_blocks_do_not_matter(tmp_path_factory, lines, block, cut):
    data = b"".join(answer(n + 1, body=b'"' + b"y" * size + b'"') for n, size in enumerate(lines))
    path = tmp_path_factory.mktemp("blocks") / "j"
    path.write_bytes(data[: max(0, len(data) - cut)])
    fd = os.open(path, os.O_RDONLY)
    try:
        small, large = list(scan_journal(fd, block)), list(scan_journal(fd))
        assert small == large
        for scanned in small:
            if scanned.entry:
                rec = os.pread(fd, scanned.rec_length, scanned.rec_offset)
                assert json.loads(rec)["custom_id"] == str(scanned.entry.line)
    finally:
        os.close(fd)


def test_damage_is_listed_once_and_its_record_is_open_again(task):
    bad = answer(2).replace(b'"n":1', b'"n":2')
    path = task.journal(1, "aa", answer(1) + bad + b"\x00\xff garbage\n" + answer(3))
    before = path.read_bytes()
    looked = read_chunk(task.directory, 1, 0)
    quarantine = task.directory.path / quarantine_name(1)
    assert not quarantine.exists()
    for _ in range(2):
        state = read_chunk(task.directory, 1, 0, repair=True)
        assert state == looked
        assert state.quarantined == 2
        assert state.terminals == {1: "answer", 3: "answer"}
        assert not state.is_done(2)
        listed = [json.loads(line) for line in quarantine.read_bytes().splitlines()]
        assert [(entry["journal"], entry["offset"], entry["length"]) for entry in listed] == [
            (journal_name(1, "aa"), len(answer(1)), len(bad) - 1),
            (journal_name(1, "aa"), len(answer(1) + bad), 10),
        ]
        assert listed[1]["begins"] == "\x00\\xff garbage"
    assert path.read_bytes() == before


def test_a_torn_quarantine_file_is_mended(task):
    task.journal(1, "aa", b"bad\nworse\n")
    quarantine = task.directory.path / quarantine_name(1)
    read_chunk(task.directory, 1, 0, repair=True)
    good = quarantine.read_bytes()
    quarantine.write_bytes(good[: good.index(b"\n") + 20])
    read_chunk(task.directory, 1, 0, repair=True)
    lines = quarantine.read_bytes().split(b"\n")
    assert [json.loads(lines[0])["offset"], json.loads(lines[2])["offset"]] == [0, 4]
    assert len(lines) == 4  # good, torn, good again, and nothing after the last newline


def test_repair_makes_a_dead_writers_journal_durable(task, monkeypatch):
    task.journal(1, "aa", answer(1))
    synced = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    read_chunk(task.directory, 1, 0)
    assert not synced
    read_chunk(task.directory, 1, 0, repair=True)
    assert len(synced) == 1


def test_a_failed_sync_is_told(task, monkeypatch):
    task.journal(1, "aa", answer(1))
    monkeypatch.setenv("BATCH_INFER_FS_FAULTS", f"sync:chunk_0000001={errno.EIO}")
    with pytest.raises(OSError, match="planned"):
        read_chunk(task.directory, 1, 0, repair=True)


@pytest.mark.parametrize("end", ["whole", "torn", "damaged"])
def test_a_line_of_100_mb_is_never_held(task, end):
    body = b'"' + b"x" * (100 * 1024 * 1024) + b'"'
    long = answer(1, body=body)
    if end == "damaged":
        long = long.replace(b'"x', b'"y', 1)
    path = task.directory.path / journal_name(1, "aa")
    with path.open("wb") as file:
        file.write(long if end != "torn" else long[:-1])
        if end != "torn":
            file.write(answer(2))
    size = len(long)
    del body, long
    tracemalloc.start()
    state = read_chunk(task.directory, 1, 0, repair=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * BLOCK
    assert (state.torn, state.quarantined) == (end == "torn", end == "damaged")
    assert list(state.terminals) == {"whole": [1, 2], "torn": [], "damaged": [2]}[end]
    assert path.stat().st_size == (0 if end == "torn" else size + len(answer(2)))
