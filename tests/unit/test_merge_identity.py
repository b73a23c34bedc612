"""The identity: it holds for honest journals, and breaks for every kind of tampering."""

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_kit import T, Task, answer, attempt, error, missing, what

from batch_inferd.journal.names import chunk_name
from batch_inferd.merge.chunk import Sealed
from batch_inferd.merge.tally import Problems

LINES = b'{"n":1}\n\n{"n":3}\n{"n":4}\n'  # line 2 is blank


@pytest.fixture
def task(tmp_path):
    made = Task(tmp_path)
    yield made
    made.close()


def test_all_kinds_in_input_order(task):
    task.chunk(LINES, Sealed(3, 1, 1, 1, 1))
    task.journal(1, "bb", missing(4) + answer(1, t=T + 5))
    task.journal(1, "aa", attempt(3) + error(3))
    task.chunk(b'{"n":5}\n{"n":6}\n', Sealed(2, 2, 0, 0, 0))
    task.journal(2, "cc", answer(6) + answer(5))
    result = task.merge(input_bytes=len(LINES) + 16)
    assert result.problems == []
    assert result.identity
    assert task.ids("output.jsonl") == ["1", "5", "6"]
    assert task.ids("error_retry0.jsonl") == ["3"]
    assert task.staged("missing_records.jsonl") == b'{"n":4}\n'
    assert result.counts.to_json() == {
        "input": 5, "output": 3, "error": 1, "missing": 1, "pending": 0, "blank": 1,
    }  # fmt: skip


def test_an_empty_input(task):
    result = task.merge(input_bytes=0)
    assert result.identity
    assert set(result.files) == {"output.jsonl", "error_retry0.jsonl", "missing_records.jsonl", "report.json"}
    assert task.report()["chunks"] == []
    assert [task.staged(name) for name in result.files if name != "report.json"] == [b"", b"", b""]


def build(task, journal, sealed=None):
    task.chunk(LINES, sealed)
    task.journal(1, "aa", journal)
    return task.merge()


HONEST = answer(1) + error(3) + missing(4)


@pytest.mark.parametrize(
    ("journal", "problems"),
    [
        (error(3) + missing(4), [(1, 1, "no_terminal")]),
        (b"", [(1, 1, "no_terminal"), (1, 3, "no_terminal"), (1, 4, "no_terminal")]),
        (HONEST + answer(1), [(1, 1, "two_answers")]),
        (HONEST + answer(1, round=1), [(1, 1, "two_answers")]),
        (HONEST + error(3), [(1, 3, "two_terminals")]),
        (HONEST + missing(3), [(1, 3, "two_terminals")]),
        (HONEST + answer(4), [(1, 4, "two_terminals")]),
        (HONEST + error(1), [(1, 1, "two_terminals")]),
        (HONEST + answer(2), [(1, 2, "terminal_of_blank_line")]),
        (HONEST + answer(5), [(1, 5, "foreign_line")]),
        (HONEST + missing(10**15), [(1, 10**15, "foreign_line")]),
        (HONEST.replace(b'"n":1', b'"n":2'), [(1, 1, "no_terminal")]),  # a flipped byte: quarantined
        (HONEST[:-1], [(1, 4, "no_terminal")]),  # torn
    ],
)
def test_tampering(task, journal, problems):
    result = build(task, journal)
    assert what(result) == problems
    assert not result.identity
    report = task.report()
    assert report["identity"] is False
    assert report["state"] == "failed"
    assert report["identity_problems"] == result.problems


def test_damage_whose_record_was_done_again_is_fine(task):
    task.chunk(LINES, Sealed(3, 1, 1, 1, 1))
    task.journal(1, "aa", HONEST.replace(b'"n":1', b'"n":2') + b"\x00torn")
    task.journal(1, "bb", answer(1, t=T + 9))
    result = task.merge()
    assert result.identity
    assert (result.tally.quarantined, result.tally.torn, result.tally.extras) == (1, 1, 0)


@pytest.mark.parametrize(
    ("chunk", "problem"),
    [
        (LINES + b'{"n":9}\n', (1, None, "chunk_file")),
        (LINES[:-1], (1, None, "chunk_file")),
        (b'{"n":1}\n    \n{"n":3}\n' + b"        ", (1, None, "chunk_file")),
    ],
)
def test_a_changed_chunk_file(task, chunk, problem):
    task.chunk(LINES)
    task.journal(1, "aa", HONEST)
    (task.directory.path / chunk_name(1)).write_bytes(chunk)
    assert problem in what(task.merge())


def test_a_chunk_file_of_equal_size_but_other_lines_meets_its_sealed_counts(task):
    task.chunk(LINES, Sealed(3, 1, 1, 1, 1))
    task.journal(1, "aa", answer(1) + error(3))
    (task.directory.path / chunk_name(1)).write_bytes(b'{"n":1}\n\n{"n":3}\n       \n')
    assert what(task.merge()) == [(1, None, "sealed_counts")]


@pytest.mark.parametrize("sealed", [Sealed(3, 2, 0, 1, 1), Sealed(4, 1, 1, 1, 0), Sealed(3, 0, 0, 0, 1)])
def test_sealed_counts_that_differ(task, sealed):
    result = build(task, HONEST, sealed)
    assert what(result) == [(1, None, "sealed_counts")]
    assert result.problems[0]["sealed"] == sealed._asdict()


def test_lost_and_reordered_chunks(task):
    task.simple(9)
    size = sum(row.bytes for row in task.rows)
    assert task.merge(input_bytes=size).identity
    rows = task.rows
    task.rows = [rows[0], rows[2]]
    result = task.merge(input_bytes=size)
    assert what(result) == [(3, 7, "chunk_order"), (None, None, "input_bytes")]
    task.rows = rows[:2]  # the last row is gone: only the size tells
    assert what(task.merge(input_bytes=size)) == [(None, None, "input_bytes")]
    task.rows = [rows[1], rows[0], rows[2]]
    assert not task.merge().identity


def test_a_lost_chunk_file_is_an_error_of_the_disk(task):
    task.simple(3)
    (task.directory.path / chunk_name(1)).unlink()
    with pytest.raises(FileNotFoundError):
        task.merge()


def test_of_two_answers_the_earlier_counts(task):
    task.chunk(b"{}\n")
    task.journal(1, "aa", answer(1, t=T + 1, body=b'"late"'))
    task.journal(1, "bb", answer(1, t=T, body=b'"early"'))
    result = task.merge()
    assert b'"early"' in task.staged("output.jsonl")
    assert result.tally.extras == 1
    assert not result.identity


def test_problems_are_counted_and_the_first_hundred_kept(task):
    task.chunk(b"{}\n" * 250)
    result = task.merge()
    assert result.problem_count == 250
    assert len(result.problems) == Problems.KEPT == 100
    assert task.report()["identity_problems_count"] == 250


def test_all_chunks_with_problems_are_named_in_order(task, monkeypatch):
    task.simple(9)
    for _ in range(Problems.KEPT + 5):
        task.chunk(b"{}\n")
    rows = task.rows
    task.rows = [rows[0], rows[2], rows[1], *rows[3:]]
    result = task.merge(input_bytes=0)
    assert len(result.problems) == Problems.KEPT
    assert result.problem_chunks == list(range(2, len(rows) + 1))
    monkeypatch.setattr(Problems, "KEPT_CHUNKS", 3)
    assert task.merge().problem_chunks == [2, 3, 4]


ROUND_0 = answer(1) + error(3, failure="server") + missing(4)


@pytest.mark.parametrize("leases", [("aa", "bb"), ("bb", "aa")])  # journals are met in either order
def test_rounds(task, leases):
    task.chunk(LINES)
    task.journal(1, leases[0], attempt(3) + ROUND_0)
    task.journal(1, leases[1], answer(3, round=1, t=T + 60) + error(4, round=1, failure="timeout"))
    result = task.merge(generation=2, round=1, input_bytes=len(LINES))
    assert result.problems == []
    assert (result.counts.output, result.counts.error, result.counts.missing) == (2, 1, 0)
    assert task.ids("output.jsonl", 2) == ["1", "3"]
    assert task.ids("error_retry1.jsonl", 2) == ["4"]
    assert dict(result.tally.errors) == {"timeout": 1}
    assert result.tally.extras == 0
    assert task.report(2)["round"] == 1


@pytest.mark.parametrize("leases", [("aa", "bb"), ("bb", "aa")])
def test_a_double_in_an_earlier_round_is_history(task, leases):
    task.chunk(LINES)
    task.journal(1, leases[0], ROUND_0 + error(3) + answer(1, round=1))
    task.journal(1, leases[1], error(3, round=1) + missing(4, round=1))
    assert what(task.merge(round=1)) == [(1, 1, "two_answers")]


@pytest.mark.parametrize("leases", [("aa", "bb"), ("bb", "aa")])
@pytest.mark.parametrize("rounds", [(0, 1), (1, 0)])
def test_a_double_in_another_round_than_the_answers_is_history(task, leases, rounds):
    task.chunk(b"{}\n")
    task.journal(1, leases[0], error(1, round=rounds[0]) * 2)
    task.journal(1, leases[1], answer(1, round=rounds[1]))
    assert task.merge(round=1).identity


def test_what_failed_in_an_earlier_round_only_has_not_ended(task):
    task.chunk(LINES)
    task.journal(1, "aa", ROUND_0)
    task.journal(1, "bb", answer(4, round=1))
    assert what(task.merge(round=1)) == [(1, 3, "no_terminal")]


@pytest.mark.parametrize("leases", [("aa", "bb"), ("bb", "aa")])
def test_an_error_after_the_answer_changes_nothing_but_is_counted(task, leases):
    task.chunk(LINES)
    task.journal(1, leases[0], HONEST)
    task.journal(1, leases[1], error(1, round=1) + error(3, round=1) + missing(4, round=1))
    result = task.merge(round=1)
    assert task.ids("output.jsonl") == ["1"]
    assert result.tally.extras == 1


def test_a_cancelled_task(task):
    task.chunk(LINES, Sealed(3, 1, 1, 1, 1))
    task.journal(1, "aa", HONEST)
    task.chunk(b'{"n":5}\n{"n":6}\n')
    task.journal(2, "bb", attempt(6) + answer(5)[:-20])
    result = task.merge(state="cancelled", header={"unread": {"line": 7, "byte": 40}, "left_out": 0})
    assert what(result) == [(2, 5, "no_terminal"), (2, 6, "no_terminal")]  # torn; only tried
    assert result.problem_chunks == [2]
    assert task.report()["state"] == "failed"
    assert [chunk["pending"] for chunk in task.report()["chunks"]] == [0, 2]
    task.journal(2, "cc", missing(5) + error(6))  # what the daemon writes before it merges
    result = task.merge(state="cancelled", header={"unread": {"line": 7, "byte": 40}, "left_out": 0})
    assert result.identity
    report = task.report()
    assert report["state"] == "cancelled"
    assert report["unread"] == {"line": 7, "byte": 40}
    assert result.counts.to_json() == report["counts"] == {
        "input": 5, "output": 1, "error": 2, "missing": 2, "pending": 0, "blank": 1,
    }  # fmt: skip


def test_a_cancelled_retry_keeps_what_failed_before(task):
    task.chunk(LINES)
    task.journal(1, "aa", ROUND_0)
    task.journal(1, "bb", answer(4, round=1))
    result = task.merge(round=1, state="cancelled")
    assert result.identity
    assert task.ids("error_retry1.jsonl") == ["3"]
    assert result.counts.pending == 0


OUTCOMES = {"answer": answer, "error": error, "missing": missing}


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(["answer", "error", "missing", "blank"]), min_size=1, max_size=25),
    per_chunk=st.integers(1, 8),
    journals=st.integers(1, 3),
    tamper=st.sampled_from(["no", "drop", "double", "flip", "foreign"]),
    data=st.data(),
)
def test_any_task(*, tmp_path_factory, kinds, per_chunk, journals, tamper, data):
    task = Task(tmp_path_factory.mktemp("any"))
    source = b"".join(
        b" \r\n" if kind == "blank" else b'{"line":%d}\n' % n for n, kind in enumerate(kinds, 1)
    )
    files = {}
    for first in range(0, len(kinds), per_chunk):
        part = list(enumerate(kinds[first : first + per_chunk], first + 1))
        task.chunk(b"".join(source.splitlines(True)[n - 1] for n, _ in part))
        ended = [(n, OUTCOMES[kind](n)) for n, kind in part if kind != "blank"]
        for lease in range(journals):
            files[len(task.rows), f"{lease:x}"] = [line for n, line in ended if n % journals == lease]
    full = [key for key, lines in files.items() if lines]
    if tamper != "no" and full:
        lines = files[data.draw(st.sampled_from(full))]
        at = data.draw(st.integers(0, len(lines) - 1))
        if tamper == "drop":
            del lines[at]
        elif tamper == "double":
            lines.append(lines[at])
        elif tamper == "flip":
            lines[at] = lines[at].replace(b'"line":', b'"Line":', 1)
        else:
            lines.append(answer(len(kinds) + 1))
    for (chunk, lease), lines in files.items():
        task.journal(chunk, lease, b"".join(data.draw(st.permutations(lines))))
    result = task.merge(input_bytes=len(source))
    assert result.identity == (tamper == "no" or not full)
    assert result.input == {"bytes": len(source), "sha256": hashlib.sha256(source).hexdigest()}
    if result.identity:
        assert task.ids("output.jsonl") == [str(n) for n, kind in enumerate(kinds, 1) if kind == "answer"]
        assert task.ids("error_retry0.jsonl") == [
            str(n) for n, kind in enumerate(kinds, 1) if kind == "error"
        ]
        lost = [json.loads(line)["line"] for line in task.staged("missing_records.jsonl").splitlines()]
        assert lost == [n for n, kind in enumerate(kinds, 1) if kind == "missing"]
        counts = result.counts
        assert (
            counts.input == counts.output + counts.error + counts.missing == sum(k != "blank" for k in kinds)
        )
    task.close()
