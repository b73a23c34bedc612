"""Collecting: records without a result, by how their batch ended."""

import pytest
from batch_collect_kit import SECRET, add, one
from batch_jobs_kit import Desk, failed, refusal, result, sums
from journal_kit import attempt
from worker_kit import ask


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    yield made
    made.close()


class TestWithoutAResult:
    def test_absent_is_charged(self, desk):
        found, entry = one(desk, None, message="of the batch")
        assert (entry["class"], entry["charged"], entry["status"]) == ("absent", True, None)
        assert "no result file" in entry["message"]
        assert sums(found) == {"retried": 1}

    def test_always_absent_is_missing(self, desk):
        add(desk, 1)
        outcomes = [sums(desk.collect(desk.results())) for _ in range(3)]
        assert outcomes == [{"retried": 1}, {"retried": 1}, {"missing": 1}]
        (entry,) = desk.folder.records("missing").values()
        assert (entry["attempt"], desk.folder.kinds()) == (3, {"attempt": 2, "missing": 1})

    def test_absent_at_last_is_an_error_of_what_was_said_before(self, desk):
        before = (
            attempt(1, 1, failure="server_error", status=503, message="boom"),
            attempt(1, 2, failure="absent"),
        )
        found, entry = one(desk, None, before=before)
        assert (entry["k"], entry["class"], entry["attempt"]) == ("error", "server_error", 3)
        assert entry["rec"]["error"]["message"] == "boom"
        assert entry["rec"]["response"]["status_code"] == 503
        assert sums(found) == {"failed": 1}

    @pytest.mark.parametrize(
        ("ended", "ours", "cls", "charged"),
        [
            ("expired", False, "expired", True),
            ("expired", True, "expired", False),
            ("cancelled", False, "cancelled", True),
            ("cancelled", True, "cancelled", False),
            ("failed", False, "batch_failed", True),
            ("failed", True, "batch_failed", True),
        ],
    )
    def test_a_batch_that_ended_early_keeps_its_partial_results(self, desk, ended, ours, cls, charged):
        add(desk, 3)
        files = desk.results(result(2)), desk.results(failed(3, "batch_expired"), kind="errors")
        found = desk.collect(*files, ended=ended, ours=ours, message=f"because {SECRET}")
        assert sums(found) == {"answered": 1, "retried": 2}
        entries = desk.folder.records("attempt")
        assert (entries[1]["class"], entries[1]["charged"]) == (cls, charged)
        assert entries[1]["message"] == "because ***"
        assert (entries[3]["class"], entries[3]["charged"]) == ("expired", not ours)

    def test_used_up_with_the_batch(self, desk):
        found, entry = one(desk, None, before=(attempt(1, 1), attempt(1, 2)), ended="expired")
        assert (entry["k"], entry["class"]) == ("error", "expired")
        assert "expired before" in entry["rec"]["error"]["message"]
        assert sums(found) == {"failed": 1}

    def test_ending_all_of_a_batch(self, desk):
        found, entry = one(desk, None, ended="failed", max_retry=-1, message="bad file")
        assert (entry["class"], entry["rec"]["error"]["message"]) == ("batch_failed", "bad file")
        assert sums(found) == {"failed": 1}


class TestFallback:
    def test_used_up_retries_go_online(self, desk):
        before = attempt(1, 1), attempt(1, 2)
        found, entry = one(desk, result(1, 500), before=before, fallback="exhausted")
        assert (entry["move"], entry["charged"], entry["class"]) == ("online", True, "server_error")
        assert sums(found) == {"moved": 1}
        assert (found["chunks"][0]["open"], found["chunks"][0]["online"]) == (1, 1)
        line = desk.folder.state().state(1)
        assert (line.online, line.charged, line.strikes, line.attempts) == (True, 0, 0, 3)
        assert found["chunks"][0]["counts"] == desk.folder.state().counts()

    def test_used_up_absences_go_online_too(self, desk):
        found, entry = one(desk, None, max_retry=0, fallback="exhausted")
        assert (entry["move"], sums(found)) == ("online", {"moved": 1})

    @pytest.mark.parametrize(
        "line", [result(1, 500), None, result(1, 429), result(1, 401), failed(1, "batch_expired")]
    )
    def test_others_stay_unless_all_go(self, desk, line):
        found, entry = one(desk, line, fallback="exhausted")
        assert ("move" not in entry, sums(found)) == (True, {"retried": 1})

    @pytest.mark.parametrize(
        ("line", "charged"),
        [(result(1, 500), True), (None, True), (result(1, 429), False), (result(1, 401), False)],
    )
    def test_all_that_would_be_tried_again_go_online(self, desk, line, charged):
        found, entry = one(desk, line, fallback="all")
        assert (entry["move"], entry["charged"], sums(found)) == ("online", charged, {"moved": 1})

    def test_answers_and_errors_are_what_they_are(self, desk):
        add(desk, 2)
        found = desk.collect(desk.results(result(1), result(2, 400, refusal())), fallback="all")
        assert sums(found) == {"answered": 1, "failed": 1}


class TestRefused:
    def chunks(self, desk):
        desk.add(*(ask(f"q{n}", custom_id=f"c{n}") for n in range(1, 6)))
        desk.add(*(ask(f"q{n}", custom_id=f"c{n}") for n in range(6, 11)))
        return [desk.chunk(1) | {"ranges": [[2, 2], [4, 5]]}, desk.chunk(2) | {"ranges": [[7, 9]]}]

    def test_named_lines_end_and_the_others_are_as_they_were(self, desk):
        chunks = self.chunks(desk)
        problems = [
            [2, "invalid", "bad model"],
            [2, "x", "again"],
            [4, "", "bad"],
            [99, "x", "none"],
            [None, "x", ""],
        ]
        found = desk.collect(ended="refused", problems=problems, chunks=chunks)
        assert sums(found) == {"failed": 2, "named": 2}
        assert [(chunk["chunk"], chunk["open"]) for chunk in found["chunks"]] == [(1, 4), (2, 4)]
        (entry,) = desk.folder.entries(1)
        assert (entry["line"], entry["class"], entry["rec"]["custom_id"]) == (4, "bad_request", "c4")
        assert "bad model" in entry["rec"]["error"]["message"]
        assert [entry["line"] for entry in desk.folder.entries(2)] == [7]

    @pytest.mark.parametrize(
        ("code", "cls"), [("insufficient_quota", "credit"), ("model_not_found", "model")]
    )
    def test_what_blocks_ends_nothing(self, desk, code, cls):
        chunks = self.chunks(desk)
        found = desk.collect(ended="refused", problems=[[1, code, "no"], [2, code, "no"]], chunks=chunks)
        assert (sums(found), found["blocked"]["cls"]) == ({}, cls)
        assert desk.folder.entries(1) == desk.folder.entries(2) == []

    def test_a_model_of_the_lines_own(self, desk):
        desk.add(ask("a", model="typo"))
        found = desk.collect(ended="refused", problems=[[1, "model_not_found", "no"]])
        assert (sums(found), found["blocked"]) == ({"failed": 1, "named": 1}, None)
        assert desk.folder.records("error")[1]["class"] == "model"

    def test_all_go_online(self, desk):
        chunks = self.chunks(desk)
        found = desk.collect(ended="refused", problems=[[1, "x", "no"]], chunks=chunks, fallback="all")
        assert sums(found) == {"failed": 1, "named": 1, "moved": 5}
        assert {entry["charged"] for entry in desk.folder.records("attempt", 2).values()} == {False}
