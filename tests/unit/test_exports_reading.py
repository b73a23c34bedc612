"""The records of a task: each input line with what became of it, by the rules of the merge."""

import threading
import tracemalloc

import pytest
from exports_kit import answer, chat, error, exported, line, missing
from journal_kit import T, Task, attempt, indexed

from batch_inferd.exports.reading import ExportStopped, read_chunks, read_lines
from batch_inferd.journal.names import chunk_name
from batch_inferd.merge.index import ANSWER, ERROR, MISSING, NONE
from batch_inferd.merge.tally import Tally


@pytest.fixture
def task(tmp_path):
    made = Task(tmp_path)
    yield made
    made.close()


def records(task):
    return [record for chunk in read_chunks(exported(task), Tally()) for record in chunk.records]


def test_every_line_in_order_with_its_end(task):
    task.chunk(line("a", "A") + b"\n" + line("b", "B") + line("c", "C") + line("d", "D"))
    task.journal(1, "aa", attempt(1) + error(3) + missing(4) + answer(1, t=T + 5, ms=70, tokens_out=None))
    task.chunk(line("e", "E"))
    task.journal(2, "bb", answer(6, path="batch", ms=3_600_000))
    found = records(task)
    assert [(record.line, record.kind, record.lease) for record in found] == [
        (1, ANSWER, "aa"),
        (3, ERROR, "aa"),
        (4, MISSING, "aa"),
        (5, NONE, ""),
        (6, ANSWER, "bb"),
    ]
    assert (found[0].t, found[0].ms, found[0].tokens_in, found[0].tokens_out) == (T + 5, 70, 3, None)
    assert found[0].rec.startswith(b'{"id":"batch_k","custom_id":"1"')
    assert found[2].rec == b""
    assert found[2].attempts == 4
    assert found[4].ms is None, "a batch's age is no call's duration"
    assert [number for number, _ in read_lines(exported(task))] == [1, 3, 4, 5, 6]


def test_the_first_answer_wins_and_the_newest_round_of_failures(task):
    task.chunk(line("a", "A") + line("b", "B"))
    task.journal(1, "aa", error(1) + error(2))
    task.journal(1, "bb", answer(1, round=1, ms=11) + error(2, round=1, failure="server_error"))
    task.journal(1, "cc", answer(1, round=1, t=T + 9, ms=99))
    first, second = records(task)
    assert (first.kind, first.ms, first.lease) == (ANSWER, 11, "bb")
    assert b'"code":"server_error"' in second.rec


def test_an_indexed_journal_and_a_damaged_one(task):
    task.chunk(line("a", "A") + line("b", "B"))
    task.journal(1, "aa", indexed([answer(1), answer(2)]).replace(b'"line":2', b'"line":3', 1))
    assert [record.kind for record in records(task)] == [ANSWER, NONE]


def test_the_bom_of_the_first_line_is_no_content(task):
    task.chunk(b"\xef\xbb\xbf" + line("a", "A"))
    assert records(task)[0].data.startswith(b'{"custom_id"')


def test_it_stops_when_it_is_told(task):
    task.simple(9)
    stop = threading.Event()

    def read():
        for chunk in read_chunks(exported(task), Tally(), stop):
            for record in chunk.records:
                if record.line == 5:
                    stop.set()

    with pytest.raises(ExportStopped):
        read()


def test_a_lost_chunk_file_is_an_error(task):
    task.simple(6)
    (task.directory.path / chunk_name(2)).unlink()
    with pytest.raises(FileNotFoundError):
        records(task)


def test_memory_does_not_grow_with_the_task(task):
    text = "x" * 2000
    for chunk in range(30):
        first = 100 * chunk + 1
        task.chunk(b"".join(line(str(n), text) for n in range(first, first + 100)))
        journal = b"".join(answer(n, body=chat(text)) for n in range(first, first + 100))
        task.journal(chunk + 1, "aa", journal)
    tracemalloc.start()
    try:
        count = sum(1 for chunk in read_chunks(exported(task), Tally()) for _ in chunk.records)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 3000
    assert peak < 4_000_000, "30 chunks have 12 MB"
