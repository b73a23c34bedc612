"""Collecting: what becomes of each record of a submission, by its result and by how the batch ended."""

import errno
import json
import os
import random
import tracemalloc

import msgspec
import pytest
from batch_jobs_kit import Desk, answer_body, batch_plan, failed, fire, refusal, result, sums
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journal_kit import answer, attempt, error
from worker_kit import ask

from batch_infer.protocol.text import Text
from batch_inferd.journal.names import chunk_journals, journal_name
from batch_inferd.worker.batch import collect
from batch_inferd.worker.batch.context import JobCancelled
from batch_inferd.worker.batch.messages import CollectParams
from batch_inferd.worker.strikes import MAX_STRIKES

SECRET = "sk-very-secret-key"


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    yield made
    made.close()


def add(desk, count, **fields):
    desk.add(*(ask(f"q{n}", **fields) for n in range(1, count + 1)))


def journal(desk, *lines, chunk=1, lease="aa"):
    (desk.path / journal_name(chunk, lease)).write_bytes(b"".join(lines))


def one(desk, line, *, kind="output", before=(), **params):
    """Collect a single result of a single record; the entry that was journaled for it."""
    add(desk, 1)
    if before:
        journal(desk, *before)
    known = len(desk.folder.entries())
    found = desk.collect(desk.results(*([line] if line else []), kind=kind), **params)
    entries = (
        desk.folder.entries()[known:]
        if not before
        else [entry for entry in desk.folder.entries() if entry.get("submission") or entry["k"] != "attempt"]
    )
    assert len(entries) <= 1
    return found, entries[0] if entries else None


class TestAnswers:
    def test_an_answer(self, desk):
        desk.add(ask("a", custom_id="mine"), ask("b"))
        found = desk.collect(desk.results(result(2), result(1)))
        assert sums(found) == {"answered": 2}
        assert (found["blocked"], found["quarantine"]) == (None, None)
        (chunk,) = found["chunks"]
        assert (chunk["open"], chunk["online"]) == (0, 0)
        assert chunk["counts"] == desk.folder.state().counts()
        assert (chunk["counts"]["tokens_in"], chunk["counts"]["tokens_out"]) == (6, 8)
        entries = desk.folder.records("answer")
        assert (entries[1]["path"], entries[1]["ms"], entries[1]["attempt"]) == ("batch", 7000, 1)
        assert (entries[1]["in"], entries[1]["out"]) == (3, 4)
        assert entries[1]["rec"] == {
            "id": "batch_kit",
            "custom_id": "mine",
            "response": {"status_code": 200, "request_id": "req-1", "body": answer_body()},
            "error": None,
        }
        assert entries[2]["rec"]["custom_id"] == "2"

    def test_bodies_travel_raw(self, desk):
        add(desk, 2)
        body = rb'{ "choices":[{"n":1.50,"big":123456789012345678901234567890,"s":"\ud83d \u00e9"}]}'
        line = b'{"custom_id":"r1","response":{"status_code":200,"request_id":"q","body":' + body + b"}}"
        text = (
            b'{"custom_id":"r2","response":{"status_code":200,"body":'
            + json.dumps(body.decode()).encode()
            + b"}}"
        )
        assert sums(desk.collect(desk.results(line, text))) == {"answered": 2}
        data = b"".join((desk.path / name).read_bytes() for name in chunk_journals(desk.folder.directory, 1))
        assert data.count(body) == 2

    @pytest.mark.parametrize(
        "line",
        [
            b'{"custom_id":"r1","response":{"status_code":200,"body":{"choices":[1]}}}',
            b'{"custom_id":"r1","response":{"status_code":"200","body":{"choices":[1]}},"error":{}}',
            b'{"custom_id":"r1","response":{"body":{"choices":[1]}},"error":null}',
            b'{"custom_id":"r1","response":{"choices":[1]}}',
            b'\xef\xbb\xbf{"custom_id":"r1","response":{"status_code":200,"body":"{\\"data\\":[1]}"}}\r',
            b' {"response":{"status_code":202,"body":{"output":[1]}},"custom_id":"r1"} ',
        ],
    )
    def test_dialects(self, desk, line):
        found, entry = one(desk, line)
        assert sums(found) == {"answered": 1}
        assert entry["rec"]["response"]["status_code"] in (200, 202)

    def test_any_order_over_many_chunks(self, desk):
        for _ in range(5):
            add(desk, 40)
        lines = [result(number, body=answer_body(f"to {number}")) for number in range(1, 201)]
        random.Random(7).shuffle(lines)
        chunks = [desk.chunk(n) | {"ranges": [[40 * n - 39, 40 * n]]} for n in (4, 2, 5, 1, 3)]
        found = desk.collect(desk.results(*lines), chunks=chunks)
        assert sums(found) == {"answered": 200}
        assert [chunk["chunk"] for chunk in found["chunks"]] == [1, 2, 3, 4, 5]
        for chunk in range(1, 6):
            for number, entry in desk.folder.records("answer", chunk).items():
                content = entry["rec"]["response"]["body"]["choices"][0]["message"]["content"]
                assert content == f"to {number}"

    def test_only_the_lines_of_the_submission(self, desk):
        add(desk, 6)
        ranges = [[2, 3], [6, 6]]
        found = desk.collect(
            desk.results(*map(result, range(1, 7))), chunks=[desk.chunk() | {"ranges": ranges}]
        )
        assert sums(found) == {"answered": 3, "unknown": 3}
        assert sorted(desk.folder.records("answer")) == [2, 3, 6]
        assert found["chunks"][0]["open"] == 3

    def test_what_was_tried_before_is_counted_on(self, desk):
        found, entry = one(desk, result(1), before=(attempt(1, 3),))
        assert (entry["attempt"], sums(found)) == (4, {"answered": 1})
        assert found["chunks"][0]["counts"]["retries"] == 1


class TestOddResults:
    def test_duplicates_unknown_and_unreadable_ones_are_set_aside(self, desk):
        add(desk, 3)
        odd = [
            result(1, body=answer_body("again")),
            result(99),
            result("other"),
            result("r01"),
            result("r1x"),
            result("r٣"),
            b'{"response":{"status_code":200,"body":{"choices":[1]}}}',
            b"{torn",
            b"\xff",
            b"[]",
        ]
        errors = [failed(1, "server_error"), result(2, 500, refusal())]
        found = desk.collect(
            desk.results(*errors, kind="errors"), desk.results(result(1), *odd, result(3)), submission="7"
        )
        assert sums(found) == {
            "answered": 2, "retried": 1, "duplicate": 2, "unknown": 6, "unreadable": 3,
        }  # fmt: skip
        assert found["quarantine"] == "batches/s7.quarantine.jsonl"
        aside = (desk.path / found["quarantine"]).read_bytes()
        assert aside == b"".join(line + b"\n" for line in [*odd, errors[0]])
        assert (desk.path / found["quarantine"]).stat().st_mode & 0o777 == 0o600
        texts = [
            e["rec"]["response"]["body"]["choices"][0]["message"]["content"]
            for e in desk.folder.records("answer").values()
        ]
        assert texts == ["hi", "hi"]

    def test_an_answer_is_kept_that_comes_after_an_error_of_its_id(self, desk):
        add(desk, 1)
        lines = [failed(1, "server_error"), result(1), result(1, body=answer_body("again"))]
        found = desk.collect(desk.results(*lines), submission="7")
        assert sums(found) == {"answered": 1, "duplicate": 2}
        (entry,) = desk.folder.records("answer").values()
        assert entry["rec"]["response"]["body"]["choices"][0]["message"]["content"] == "hi"
        aside = (desk.path / found["quarantine"]).read_bytes()
        assert aside == lines[0] + b"\n" + lines[2] + b"\n"

    def test_each_run_begins_the_quarantine_anew(self, desk):
        add(desk, 1)
        file = desk.results(result(1), result(5))
        for _ in range(2):
            found = desk.collect(file, submission="7")
            assert (desk.path / found["quarantine"]).read_bytes() == result(5) + b"\n"
        desk.collect(desk.results(result(1)), submission="7")
        assert not (desk.path / "batches/s7.quarantine.jsonl").exists()

    @pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
    @pytest.mark.parametrize("end", [b"\n", b""])
    def test_line_ends(self, desk, newline, end):
        add(desk, 3)
        file = desk.results(result(3), b"", b"  ", result(1), result(2), newline=newline, end=end)
        assert sums(desk.collect(file)) == {"answered": 3}

    def test_empty_files(self, desk):
        add(desk, 2)
        found = desk.collect(desk.results(kind="errors"), desk.results(result(1), result(2)))
        assert sums(found) == {"answered": 2}

    def test_a_line_too_long_to_hold(self, desk):
        desk.use(batch_plan(max_response_bytes=10_000))
        add(desk, 2)
        long = result(1, body=answer_body("x" * 5_000_000))
        found = desk.collect(desk.results(long, result(2)))
        assert sums(found) == {"answered": 1, "unreadable": 1, "retried": 1}
        assert (desk.path / found["quarantine"]).read_bytes() == long + b"\n"

    def test_a_file_that_changes_while_it_is_read(self, desk, monkeypatch):
        add(desk, 2)
        whole = [result(n, body=answer_body("x" * 400_000)) for n in (1, 2)]
        for left, complaint in ((b"", "shorter"), (b"{" * 1_000_000, "changed")):
            file = desk.results(*whole)
            path = desk.path / file["file"]
            monkeypatch.setattr(collect, "failpoint", lambda _, path=path, left=left: path.write_bytes(left))
            with pytest.raises(OSError, match=complaint):
                desk.collect(file)
        assert desk.folder.entries() == []


class TestFailures:
    @pytest.mark.parametrize(
        ("line", "cls"),
        [
            (result(1, 400, refusal("bad prompt")), "bad_request"),
            (result(1, 404, refusal()), "not_found"),
            (result(1, 422, refusal()), "unprocessable"),
            (result(1, 413, refusal()), "too_large"),
            (result(1, 200, refusal("flagged", code="content_filter")), "bad_request"),
            (failed(1, "invalid_request_error", "wrong"), "bad_request"),
            (failed(1, "400", "wrong"), "bad_request"),
        ],
    )
    def test_what_ends_a_record(self, desk, line, cls):
        found, entry = one(desk, line, kind="errors")
        assert (entry["k"], entry["class"], entry["attempt"]) == ("error", cls, 1)
        assert entry["rec"]["error"]["code"] == cls
        assert entry["rec"]["error"]["attempts"] == 1
        assert sums(found) == {"failed": 1}
        assert (found["chunks"][0]["counts"]["error"], found["chunks"][0]["open"]) == (1, 0)

    def test_an_error_record_shows_the_response(self, desk):
        _, entry = one(desk, result(1, 400, refusal(f"your key {SECRET} is fine, the prompt is not")))
        assert entry["rec"]["response"] == {
            "status_code": 400,
            "request_id": "req-1",
            "body": refusal("your key *** is fine, the prompt is not"),
        }
        assert SECRET not in json.dumps(entry)

    @pytest.mark.parametrize(
        ("line", "cls", "status"),
        [
            (result(1, 500, refusal("boom")), "server_error", 500),
            (result(1, 200, {"choices": []}), "unparsable", 200),
            (result(1, 200, "text"), "unparsable", 200),
            (failed(1, "server_error", "boom"), "server_error", None),
            (failed(1, "", ""), "server_error", None),
            (b'{"custom_id":"r1"}', "server_error", None),
            (b'{"custom_id":"r1","response":{"status_code":200,"body":null}}', "unparsable", 200),
            (failed(1, "batch_expired", "too late"), "expired", None),
            (failed(1, "", "this request expired"), "expired", None),
            (failed(1, "batch_cancelled", "off"), "cancelled", None),
            (result(1, 408, refusal()), "timeout", 408),
        ],
    )
    def test_what_is_tried_again(self, desk, line, cls, status):
        found, entry = one(desk, line, kind="errors", submission="12")
        assert (entry["k"], entry["class"], entry["charged"]) == ("attempt", cls, True)
        assert (entry["attempt"], entry["submission"], "move" in entry) == (1, "12", False)
        assert entry["status"] == status
        assert sums(found) == {"retried": 1}
        assert (found["chunks"][0]["counts"]["retries"], found["chunks"][0]["open"]) == (1, 1)

    def test_messages_have_no_secrets(self, desk):
        _, entry = one(desk, failed(1, "server_error", f"the key {SECRET} was at a bad place"))
        assert "***" in entry["message"]
        assert SECRET not in entry["message"]

    def test_used_up_retries_end_it(self, desk):
        found, entry = one(desk, result(1, 500, refusal("boom")), before=(attempt(1, 1), attempt(1, 2)))
        assert (entry["k"], entry["class"], entry["attempt"]) == ("error", "server_error", 3)
        assert entry["rec"]["error"]["attempts"] == 3
        assert sums(found) == {"failed": 1}

    def test_free_attempts_use_up_nothing(self, desk):
        found, entry = one(desk, result(1, 500), before=(attempt(1, 1, charged=False),) * 9)
        assert (entry["k"], sums(found)) == ("attempt", {"retried": 1})

    def test_429s_are_strikes(self, desk):
        add(desk, 1)
        for strike in range(1, MAX_STRIKES):
            found = desk.collect(desk.results(result(1, 429, refusal("busy")), kind="errors"), max_retry=0)
            assert sums(found) == {"retried": 1}
            entry = next(e for e in desk.folder.entries() if e["attempt"] == strike)
            assert (entry["class"], entry["charged"], entry["strikes"]) == ("rate_limited", False, strike)
        found = desk.collect(desk.results(result(1, 429, refusal("busy")), kind="errors"), max_retry=0)
        assert sums(found) == {"failed": 1}
        assert desk.folder.records("error")[1]["class"] == "rate_limited"

    def test_the_failures_are_noted_for_the_log(self, desk):
        add(desk, 3)
        file = desk.results(result(1), result(2, 500, refusal("boom")), result(3, 400, refusal("no")))
        params = msgspec.convert(desk.collect_params(file), CollectParams)
        collector = collect.Collector(desk.context(), params)
        collector.run()
        notes = [(note.line, note.cls, note.ended, note.charged) for note in collector.counts.notes]
        assert notes == [(2, "server_error", False, 1), (3, "bad_request", True, 0)]


class TestBlocked:
    @pytest.mark.parametrize(
        ("line", "cls"),
        [
            (result(1, 401, refusal("bad key")), "auth"),
            (result(1, 402, refusal("pay")), "credit"),
            (result(1, 429, refusal("spent", code="insufficient_quota")), "credit"),
            (failed(1, "insufficient_quota", "spent"), "credit"),
            (result(1, 404, refusal("gone", code="model_not_found")), "model"),
            (failed(1, "model_not_found", "gone"), "server_error"),
        ],
    )
    def test_the_task_is_blocked_and_the_attempt_is_free(self, desk, line, cls):
        found, entry = one(desk, line, kind="errors")
        if cls == "server_error":  # without a status, only credit is believed
            assert (found["blocked"], entry["class"]) == (None, cls)
            return
        assert (entry["k"], entry["class"], entry["charged"]) == ("attempt", cls, False)
        assert found["blocked"]["cls"] == cls
        assert Text.from_wire(found["blocked"]["text"]).params["message"]
        assert sums(found) == {"retried": 1}

    def test_the_first_one_is_told(self, desk):
        add(desk, 3)
        found = desk.collect(desk.results(*(result(n, 401, refusal(f"no {n}")) for n in (3, 2, 1))))
        assert "no 1" in str(Text.from_wire(found["blocked"]["text"]))
        assert sums(found) == {"retried": 3}

    def test_a_model_of_the_records_own_is_its_own_fault(self, desk):
        desk.add(ask("a", model="typo"), ask("b"))
        missing = refusal("gone", code="model_not_found")
        found = desk.collect(desk.results(result(1, 404, missing), result(2)))
        assert sums(found) == {"failed": 1, "answered": 1}
        assert (desk.folder.records("error")[1]["class"], found["blocked"]) == ("model", None)


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
