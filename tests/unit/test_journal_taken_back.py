"""Answers that were taken back: no reader takes them for an end, and all count what was paid for them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_kit import T, Task, answer, attempt, error, indexed, missing, what

from batch_inferd.exports.reading import Exported, read_chunks
from batch_inferd.journal.extras import quarantine_extras
from batch_inferd.journal.format import DamagedLine, TakenBack, decode, encode_taken_back
from batch_inferd.journal.names import BACK, Listing, chunk_journals, journal_name, list_journals
from batch_inferd.journal.reader import read_chunk
from batch_inferd.merge.index import ANSWER, ERROR
from batch_inferd.merge.tally import Tally

LINES = b"{}\n{}\n{}\n"


@pytest.fixture
def task(tmp_path):
    made = Task(tmp_path)
    made.chunk(LINES)
    yield made
    made.close()


def back(line, round=1, t=T):
    return encode_taken_back(line=line, round=round, t=t)


def test_the_line():
    line = back(12, 3)
    assert line.startswith(b'{"k":"taken_back","line":12,"round":3,"t":1760000000.000,"crc":"')
    assert decode(line) == TakenBack(12, 3, T)
    with pytest.raises(DamagedLine):
        decode(line.replace(b'"line":12', b'"line":13'))


def test_it_is_read_first_whatever_the_others_are_called(task):
    for lease in ("zz", "aa", f"{BACK}zz", f"{BACK}aa", "0"):
        task.journal(1, lease, b"")
    names = [journal_name(1, lease) for lease in (f"{BACK}aa", f"{BACK}zz", "0", "aa", "zz")]
    assert chunk_journals(task.directory, 1) == names
    assert list_journals(task.directory, "0000") == {1: names}
    assert Listing(task.directory).of_chunk(1) == names


def test_an_answer_that_was_taken_back_is_open_and_paid_for(task):
    task.journal(1, "aa", attempt(1) + answer(1, attempt=2) + answer(2) + error(3, round=1))
    task.journal(1, f"{BACK}x", back(1))
    for round_number in (0, 1):
        state = read_chunk(task.directory, 1, round_number)
        assert not state.is_done(1)
        assert state.terminals[2] == "answer"
        assert state.state(1).attempts == 0, "its tries are history"
        assert (state.tokens_in, state.tokens_out, state.retries) == (6, 8, 1)
        assert state.counts()["answered"] == 1
        assert state.extras == 0
    result = task.merge(round=1)
    assert what(result) == [(1, 1, "no_terminal")]
    assert (result.tally.tokens_in, result.tally.taken_back, result.tally.answers) == (6, 1, 1)
    assert result.tally.paths == {"online": 1}
    assert result.tally.attempts == 4


@pytest.mark.parametrize("lease", ["00", "zz"])
def test_what_the_new_round_brings_counts_alone(task, lease):
    task.journal(1, "aa", answer(1, body=b'"old"', t=T) + answer(2, body=b'"old"') + answer(3, body=b'"old"'))
    task.journal(1, f"{BACK}x", back(1) + back(2) + back(3))
    task.journal(
        1, lease, answer(1, body=b'"new"', round=1, t=T + 9) + error(2, round=1) + missing(3, round=1)
    )
    state = read_chunk(task.directory, 1, 1)
    assert state.terminals == {1: "answer", 2: "error", 3: "missing"}
    assert (state.extras, state.tokens_in) == (0, 12)
    result = task.merge(round=1)
    assert result.identity
    assert (result.tally.extras, result.tally.taken_back, result.tally.tokens_in) == (0, 3, 12)
    assert b'"new"' in task.staged("output.jsonl")
    assert b'"old"' not in task.staged("output.jsonl")
    assert task.ids("error_retry1.jsonl") == ["2"]
    assert task.staged("missing_records.jsonl") == b"{}\n"
    assert task.report()["taken_back"] == 3
    assert quarantine_extras(task.directory, 1, 1) == 0


def test_an_index_does_not_hide_it(task):
    task.journal(1, "aa", indexed([answer(1), answer(2), answer(3)]))
    assert task.merge().identity
    task.journal(1, f"{BACK}x", back(2))
    assert what(task.merge(generation=2, round=1)) == [(1, 2, "no_terminal")]


def test_failures_of_before_do_not_come_back(task):
    """A cancelled `-retry` leaves failures as they were; not those of a record that was answered since."""
    task.journal(1, "aa", error(1) + answer(1, round=1) + answer(2) + answer(3))
    task.journal(1, f"{BACK}x", back(1, 2))
    assert read_chunk(task.directory, 1, 0).terminals == {2: "answer", 3: "answer"}
    assert what(task.merge(round=2, state="cancelled")) == [(1, 1, "no_terminal")]
    task.journal(1, "bb", missing(1, round=2))
    assert read_chunk(task.directory, 1, 0).terminals[1] == "missing"
    assert task.merge(generation=2, round=2, state="cancelled").identity


def test_taken_back_twice(task):
    task.journal(1, "aa", answer(1) + answer(1, round=1) + answer(2) + answer(3))
    task.journal(1, f"{BACK}y", back(1, 1))
    task.journal(1, f"{BACK}x", back(1, 2))
    assert 1 not in read_chunk(task.directory, 1, 2).terminals
    task.journal(1, "bb", answer(1, round=2))
    result = task.merge(round=2)
    assert result.identity
    assert (result.tally.taken_back, result.tally.tokens_in) == (2, 15)


def test_a_damaged_word_costs_no_answer(task):
    task.journal(1, "aa", answer(1) + answer(2) + answer(3))
    task.journal(1, f"{BACK}x", back(1).replace(b'"round":1', b'"round":2') + back(2))
    state = read_chunk(task.directory, 1, 1, repair=True)
    assert state.terminals == {1: "answer", 3: "answer"}
    assert state.quarantined == 1


def test_doubles_are_told_from_what_was_taken_back(task):
    one = answer(1, round=1, t=T + 5)
    task.journal(1, "aa", answer(1) + answer(1, t=T + 1) + answer(2) + answer(3))
    task.journal(1, f"{BACK}x", back(1))
    path = task.journal(1, "bb", one + answer(1, round=1, t=T + 6))
    assert what(task.merge(round=1)) == [(1, 1, "two_answers")]
    assert quarantine_extras(task.directory, 1, 1) == 1
    assert path.read_bytes() == one
    assert task.merge(generation=2, round=1).identity


def test_a_word_of_a_round_that_never_began_is_set_aside(task):
    task.journal(1, "aa", answer(1) + answer(2) + answer(3))
    path = task.journal(1, f"{BACK}x", back(1, 4))
    assert not task.merge(round=0).identity
    assert quarantine_extras(task.directory, 1, 0) == 1
    assert path.read_bytes() == b""
    assert task.merge(generation=2, round=0).identity


def test_exports_show_the_new_end(task):
    task.journal(1, "aa", answer(1, attempt=7, tokens_in=99) + answer(2) + answer(3))
    task.journal(1, f"{BACK}x", back(1) + back(2))
    task.journal(1, "bb", answer(1, round=1, t=T + 9, ms=7) + error(2, round=1))
    tally = Tally()
    chunk = next(chunks := read_chunks(Exported("t", task.directory, lambda: task.rows), tally))
    for record, kind in zip(chunk.records, (ANSWER, ERROR, ANSWER), strict=True):
        assert record.kind == kind
        if record.line == 1:
            assert (record.t, record.ms, record.tokens_in, record.attempts) == (T + 9, 7, 3, 1)
    chunks.close()
    assert (tally.taken_back, tally.tokens_in) == (2, 108)


_LEASES = st.text("0123456789abcdef", min_size=1, max_size=3)
_ENDS = st.sampled_from(["answer", "error", "missing"])
_MAKE = {"answer": answer, "error": error, "missing": missing}


@settings(max_examples=80, deadline=None)
@given(data=st.data(), rounds=st.integers(1, 4))
def test_every_reader_agrees_after_any_rounds(tmp_path_factory, data, rounds):
    """Lines end, are taken back or tried again, in journals of any name and any order of lines."""
    made = Task(tmp_path_factory.mktemp("t"))
    made.chunk(LINES)
    ends: dict[int, str] = {}
    paid = taken = 0
    for number in range(rounds):
        opened = {line for line in ends if data.draw(st.booleans())} if number else {1, 2, 3}
        lines = []
        words = b""
        for line in sorted(opened):
            if ends.get(line) == "answer":
                words += back(line, number)
                taken += 1
        if words:
            made.journal(1, BACK + data.draw(_LEASES) + f"r{number}", words)
        for line in (1, 2, 3):
            if line in opened:
                ends[line] = data.draw(_ENDS)
                paid += ends[line] == "answer"
            if line in opened or ends[line] != "answer":  # what is left out ends again, as it did
                lines.append(_MAKE[ends[line]](line, round=number, t=T + number))
        if number and opened:
            half = read_chunk(made.directory, 1, number)
            assert {line for line, kind in half.terminals.items() if kind == "answer"} == {
                line for line, kind in ends.items() if kind == "answer" and line not in opened
            }
        lines = data.draw(st.permutations(lines))
        cut = data.draw(st.integers(0, len(lines)))
        made.journal(1, data.draw(_LEASES) + f"x{number}", b"".join(lines[:cut]))
        made.journal(1, data.draw(_LEASES) + f"y{number}", b"".join(lines[cut:]))
        state = read_chunk(made.directory, 1, number)
        assert state.terminals == ends
        assert (state.tokens_in, state.extras) == (3 * paid, 0)
        if number + 1 < rounds:
            continue
        result = made.merge(round=number)
        assert result.identity, result.problems
        by_kind = {
            kind: [str(line) for line in (1, 2, 3) if ends[line] == kind] for kind in ("answer", "error")
        }
        assert made.ids("output.jsonl") == by_kind["answer"]
        assert made.ids(f"error_retry{number}.jsonl") == by_kind["error"]
        assert (result.tally.taken_back, result.tally.tokens_in, result.tally.extras) == (taken, 3 * paid, 0)
        assert quarantine_extras(made.directory, 1, number) == 0
    made.close()


def test_answers_of_the_round_that_took_back_are_not_touched(task):
    task.journal(1, f"{BACK}x", back(1, 1))
    task.journal(1, "aa", answer(1, round=1) + answer(2) + answer(3))
    assert read_chunk(task.directory, 1, 5).terminals == {1: "answer", 2: "answer", 3: "answer"}
