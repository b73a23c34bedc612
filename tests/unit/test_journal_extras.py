"""Setting doubles aside: the next merge holds, and nothing else is touched."""

import errno
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_kit import T, Task, answer, attempt, error, missing, what

from batch_inferd.journal.extras import quarantine_extras
from batch_inferd.journal.names import journal_name, quarantine_name
from batch_inferd.journal.reader import read_chunk
from batch_inferd.lines import BLOCK

LINES = b"{}\n{}\n{}\n"


@pytest.fixture
def task(tmp_path):
    made = Task(tmp_path)
    made.chunk(LINES)
    yield made
    made.close()


def listed(task):
    path = task.directory.path / quarantine_name(1)
    return [json.loads(line) for line in path.read_bytes().splitlines() if line] if path.exists() else []


def test_two_answers_and_two_terminals(task):
    late = answer(1, t=T + 5, body=b'"late"')
    bad = answer(2).replace(b'"n":1', b'"n":2')
    torn = answer(3)[:-9]
    one = task.journal(1, "aa", attempt(1) + late + bad + error(2) + answer(3, body=b'"3"') + torn)
    two = task.journal(1, "bb", answer(1, body=b'"early"') + missing(2) + error(3))
    three = task.journal(1, "cc", attempt(3, 2))
    untouched = three.stat().st_ino
    assert {kind for _, _, kind in what(task.merge())} == {"two_answers", "two_terminals"}
    assert quarantine_extras(task.directory, 1, 0) == 3
    assert one.read_bytes() == attempt(1) + bad + error(2) + answer(3, body=b'"3"') + torn
    assert two.read_bytes() == answer(1, body=b'"early"')
    assert three.stat().st_ino == untouched
    assert [(entry["journal"], entry["offset"], entry["fault"]) for entry in listed(task)] == [
        (journal_name(1, "aa"), len(attempt(1)), "extra"),
        (journal_name(1, "bb"), len(answer(1, body=b'"early"')), "extra"),
        (journal_name(1, "bb"), len(answer(1, body=b'"early"') + missing(2)), "extra"),
    ]
    assert listed(task)[0]["begins"].encode() + b"\n" == late  # all of it: it was paid for
    result = task.merge()
    assert result.identity
    assert result.tally.extras == 0
    assert quarantine_extras(task.directory, 1, 0) == 0
    assert len(listed(task)) == 3


def test_nothing_twice_is_nothing_done(task):
    path = task.journal(1, "aa", answer(1) + error(2) + error(2, round=1) + answer(2, round=2) + missing(3))
    before = path.stat().st_ino
    assert quarantine_extras(task.directory, 1, 2) == 0
    assert path.stat().st_ino == before
    assert sorted(os.listdir(path.parent)) == [path.name, "chunk_0000001.jsonl"]
    assert quarantine_extras(task.directory, 7, 0) == 0  # no journal at all


def test_a_failure_of_a_round_that_never_began_is_in_the_way(task):
    task.journal(1, "aa", answer(1) + answer(2) + error(3) + error(3, round=5))
    assert not task.merge().identity
    assert quarantine_extras(task.directory, 1, 0) == 1
    assert task.merge().identity


def test_long_lines_and_many_extras_of_a_copied_journal(task):
    lines = [answer(n, body=b'"%s"' % (b"x" * (BLOCK + n))) for n in (1, 2, 3)]
    task.journal(1, "aa", b"".join(lines))
    copy = task.journal(1, "bb", b"".join(reversed(lines)))
    assert quarantine_extras(task.directory, 1, 0) == 3
    assert copy.read_bytes() == b""
    assert [entry["begins"].encode() + b"\n" for entry in listed(task)] == lines[::-1]
    assert task.merge().identity


def test_damage_behind_an_extra_is_still_listed_once_it_has_moved(task):
    bad = b"garbage\n" + answer(2)[:-2] + b"!\n"
    task.journal(1, "aa", answer(1) + answer(1) + bad)
    read_chunk(task.directory, 1, 0, repair=True)
    quarantine_extras(task.directory, 1, 0)
    for _ in range(2):
        assert read_chunk(task.directory, 1, 0, repair=True).quarantined == 2
    assert [entry["fault"] for entry in listed(task)] == ["checksum"] * 2 + ["extra"] + ["checksum"] * 2


@pytest.mark.parametrize(
    "fault",
    [
        "open:quarantine",
        "write:quarantine",
        "sync:quarantine",
        "open:.tmp",
        "sync:.tmp",
        "write:aa.jsonl",
        "rename:aa.jsonl",
        "sync:0000",
    ],
)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_sick_disk_leaves_the_journal_whole(task, monkeypatch, fault, number):
    journal = answer(1) + answer(1) + answer(2) + error(3)
    path = task.journal(1, "aa", journal)
    with monkeypatch.context() as patch:
        patch.setenv("BATCH_INFER_FS_FAULTS", f"{fault}={number}")
        with pytest.raises(OSError, match="planned") as caught:
            quarantine_extras(task.directory, 1, 0)
    assert caught.value.errno == number
    assert path.read_bytes() == journal
    assert not list(path.parent.glob("*.tmp"))
    assert quarantine_extras(task.directory, 1, 0) == 1
    assert task.merge().identity
    assert "extra" in {entry["fault"] for entry in listed(task)}


def test_what_is_durable_before_what(task, monkeypatch):
    from batch_inferd.seams import files

    task.journal(1, "aa", answer(1) + answer(1))
    calls = []
    monkeypatch.setattr(files, "_check", lambda operation, name: calls.append((operation, name)))
    quarantine_extras(task.directory, 1, 0)
    name = journal_name(1, "aa")
    order = [
        ("sync", quarantine_name(1)),
        ("sync", "0000"),
        ("sync", f"{name}.tmp"),
        ("rename", name),
        ("sync", "0000"),
    ]
    assert [call for call in calls if call in order] == order


KINDS = {"answer": answer, "error": error, "missing": missing}


@settings(max_examples=80, deadline=None)
@given(
    entries=st.lists(
        st.tuples(
            st.sampled_from(["answer", "error", "missing"]),
            st.integers(1, 3),  # line
            st.integers(0, 3),  # round; 3 is beyond the task's
            st.integers(0, 3),  # time
            st.integers(0, 2),  # journal
        ),
        max_size=16,
    )
)
def test_any_doubles_are_gone_and_answers_stay(*, tmp_path_factory, entries):
    task = Task(tmp_path_factory.mktemp("extras"))
    task.chunk(LINES)
    for journal in range(3):
        lines = [
            KINDS[kind](line, round=round_, t=T + t) for kind, line, round_, t, at in entries if at == journal
        ]
        task.journal(1, f"{journal}", b"".join(lines))
    task.merge(round=2, state="cancelled")
    output = task.staged("output.jsonl")
    quarantine_extras(task.directory, 1, 2)
    result = task.merge(round=2, state="cancelled")
    ended = {line for kind, line, round_, _, _ in entries if kind == "answer" or round_ <= 2}
    assert what(result) == [(1, line, "no_terminal") for line in (1, 2, 3) if line not in ended]
    assert task.staged("output.jsonl") == output
    task.close()
