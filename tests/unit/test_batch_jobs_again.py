"""Collecting once more after anything, within bounds, and with every record accounted for."""

import errno
import os
import tracemalloc

import pytest
from batch_collect_kit import add, journal, tokens
from batch_jobs_kit import Desk, answer_body, failed, fire, refusal, result, sums
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journal_kit import answer, error

from batch_inferd.journal.names import chunk_journals, journal_name
from batch_inferd.worker.batch.context import JobCancelled


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    yield made
    made.close()


class TestRunAgain:
    FILES = (result(1), result(2, 400, refusal()), result(3, 500, refusal()), result(9))

    def test_nothing_happens_twice(self, desk):
        add(desk, 4)
        params = {"submission": "5", "max_retry": 1}
        first = desk.collect(desk.results(*self.FILES), **params)
        before = desk.folder.entries()
        again = desk.collect(desk.results(*self.FILES), **params)
        assert sums(first) == sums(again) == {"answered": 1, "failed": 1, "retried": 2, "unknown": 1}
        assert first["chunks"] == again["chunks"]
        assert desk.folder.entries() == before

    def test_the_next_submission_counts_on(self, desk):
        add(desk, 1)
        for submission in ("5", "6"):
            assert sums(desk.collect(desk.results(result(1, 500)), submission=submission)) == {"retried": 1}
        assert sums(desk.collect(desk.results(result(1, 500)), submission="7")) == {"failed": 1}

    def test_moved_lines_are_not_moved_twice(self, desk):
        add(desk, 2)
        for _ in range(2):
            found = desk.collect(submission="5", fallback="all", ended="refused")
            assert (sums(found), found["chunks"][0]["online"]) == ({"moved": 2}, 2)
        assert desk.folder.kinds() == {"attempt": 2}

    def test_an_answer_that_comes_after_all_is_taken(self, desk):
        add(desk, 2)
        desk.collect(submission="5", ended="cancelled", ours=True)
        found = desk.collect(desk.results(result(1)), submission="5", ended="cancelled", ours=True)
        assert sums(found) == {"answered": 1, "retried": 1}
        assert desk.folder.records("answer")[1]["attempt"] == 2

    @pytest.mark.parametrize(
        ("point", "hit"),
        [
            ("batch.demultiplexed", 0),
            ("journal.before_write", 1),
            ("journal.before_write", 2),
            ("journal.written", 1),
            ("journal.written", 2),
            ("batch.journaled", 0),
        ],
    )
    def test_a_run_that_ended_anywhere_is_completed(self, desk, monkeypatch, point, hit):
        add(desk, 4)
        add(desk, 2)
        chunks = [desk.chunk(1) | {"ranges": [[1, 4]]}, desk.chunk(2) | {"ranges": [[5, 6]]}]
        file = desk.results(*self.FILES, result(5), result(6, 503, refusal()))
        fire(monkeypatch, point, errno.EIO, hit)
        with pytest.raises(OSError, match=point):
            desk.collect(file, submission="5", chunks=chunks, job="j")
        monkeypatch.undo()
        found = desk.collect(file, submission="5", chunks=chunks, job="j")
        assert sums(found) == {"answered": 2, "failed": 1, "retried": 3, "unknown": 1}
        assert tokens(found) == (6, 8, 0)  # of all of the batch's answers, whichever run has journaled them
        assert desk.folder.kinds(1) == {"answer": 1, "error": 1, "attempt": 2}
        assert desk.folder.kinds(2) == {"answer": 1, "attempt": 1}
        for chunk in (1, 2):
            assert found["chunks"][chunk - 1]["counts"] == desk.folder.state(chunk).counts()

    def test_a_torn_tail_is_done_again(self, desk):
        add(desk, 2)
        file = desk.results(result(1), result(2))
        desk.collect(file, submission="5", job="j")
        path = desk.path / journal_name(1, "j")
        path.write_bytes(path.read_bytes()[:-30])
        assert sums(desk.collect(file, submission="5", job="j")) == {"answered": 2}
        assert desk.folder.kinds() == {"answer": 2}
        assert len(chunk_journals(desk.folder.directory, 1)) == 2

    def test_records_that_ended_elsewhere_stay_as_they_are(self, desk):
        add(desk, 3)
        journal(desk, answer(1), error(2))
        found = desk.collect(desk.results(*map(result, (1, 2, 3))))
        assert sums(found) == {"answered": 2, "failed": 1}
        assert desk.folder.kinds() == {"answer": 2, "error": 1}
        assert tokens(found) == (6, 8, 0)

    def test_an_answer_whose_result_is_gone_has_an_unknown_cost(self, desk):
        add(desk, 2)
        journal(desk, answer(1))
        found = desk.collect(desk.results(result(2)))
        assert (sums(found), tokens(found)) == ({"answered": 2}, (3, 4, 1))

    def test_an_error_of_an_earlier_round_is_no_end(self, desk):
        add(desk, 1)
        journal(desk, error(1))
        assert sums(desk.collect(desk.results(result(1)), round=1)) == {"answered": 1}


class TestFaults:
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
    @pytest.mark.parametrize(
        "where", ["write:chunk_", "sync:chunk_", "open:chunk_0000001.j", "write:batches", "sync:batches"]
    )
    def test_a_disk_that_fails(self, desk, monkeypatch, where, number):
        add(desk, 3)
        file = desk.results(result(1), result(2), result(9))
        before = len(os.listdir("/proc/self/fd"))
        monkeypatch.setenv("BATCH_INFER_FS_FAULTS", f"{where}={number}")
        with pytest.raises(OSError, match="planned") as caught:
            desk.collect(file, submission="5", job="j")
        assert caught.value.errno == number
        assert len(os.listdir("/proc/self/fd")) == before
        monkeypatch.delenv("BATCH_INFER_FS_FAULTS")
        found = desk.collect(file, submission="5", job="j")
        assert sums(found) == {"answered": 2, "retried": 1, "unknown": 1}
        assert desk.folder.kinds() == {"answer": 2, "attempt": 1}

    def test_a_result_file_that_is_not_there(self, desk):
        add(desk, 1)
        with pytest.raises(FileNotFoundError):
            desk.collect({"file": "batches/none.jsonl", "kind": "output"})

    def test_lines_that_are_not_in_the_chunk(self, desk):
        add(desk, 2)
        for ranges in ([[1, 3]], [[0, 1]]):
            with pytest.raises(ValueError, match="not in chunk"):
                desk.collect(chunks=[desk.chunk() | {"ranges": ranges}])
        for ranges in ([[2, 2], [1, 1]], [[1, 2], [2, 2]], [[2, 1]]):
            with pytest.raises(ValueError, match="ascend"):
                desk.collect(chunks=[desk.chunk() | {"ranges": ranges}])

    def test_cancelled(self, desk):
        add(desk, 2)
        desk.stop.set()
        with pytest.raises(JobCancelled):
            desk.collect(desk.results(result(1)))


def test_memory_does_not_grow_with_what_is_set_aside(desk):
    add(desk, 10)
    lines = [result(number % 10 + 1, body=answer_body("x" * 300)) for number in range(20_000)]
    small, large = desk.results(*lines[:2_000]), desk.results(*lines)

    def peak(file):
        tracemalloc.start()
        try:
            desk.collect(file, submission="1")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(small)
    assert peak(large) < peak(small) + 1_200_000  # a block of the file, at most


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.lists(
        st.sampled_from(["ok", "500", "400", "429", "dup", "none", "expired", "torn"]),
        min_size=1,
        max_size=30,
    ),
    ended=st.sampled_from(["completed", "expired", "cancelled", "failed"]),
    ours=st.booleans(),
    fallback=st.sampled_from(["", "exhausted", "all"]),
    order=st.randoms(use_true_random=False),
    rounds=st.integers(1, 4),
)
def test_every_record_is_accounted_for(tmp_path_factory, shape, ended, ours, fallback, order, rounds):
    """Through several submissions: each record has one outcome in each, and the counts are the journals'."""
    desk = Desk(tmp_path_factory.mktemp("d"))
    add(desk, len(shape))
    made = {
        "ok": lambda n: [result(n)],
        "500": lambda n: [result(n, 500, refusal())],
        "400": lambda n: [result(n, 400, refusal())],
        "429": lambda n: [result(n, 429, refusal())],
        "dup": lambda n: [result(n), result(n)],
        "none": lambda n: [],
        "expired": lambda n: [failed(n, "batch_expired")],
        "torn": lambda n: [result(n)[:-9]],
    }
    left = list(range(1, len(shape) + 1))
    for _ in range(rounds):
        lines = [line for n in left for line in made[shape[n - 1]](n)]
        order.shuffle(lines)
        chunk = desk.chunk() | {"ranges": [[n, n] for n in left]}
        found = desk.collect(
            desk.results(*lines), ended=ended, ours=ours, fallback=fallback, max_retry=1, chunks=[chunk]
        )
        state = desk.folder.state()
        seen = sums(found)
        assert sum(
            seen.get(name, 0) for name in ("answered", "failed", "missing", "retried", "moved")
        ) == len(left)
        assert seen.get("duplicate", 0) == sum(shape[n - 1] == "dup" for n in left)
        assert seen.get("unreadable", 0) == sum(shape[n - 1] == "torn" for n in left)
        (row,) = found["chunks"]
        assert row["counts"] == state.counts()
        assert row["open"] == len(shape) - len(state.terminals)
        assert row["online"] == sum(line.online for line in state.open_lines.values())
        left = [n for n in left if n not in state.terminals and not state.state(n).online]
        if not left:
            break
    assert all(
        desk.folder.state().terminals.get(n) == "answer"
        for n, how in enumerate(shape, 1)
        if how in ("ok", "dup")
    )
    desk.close()
