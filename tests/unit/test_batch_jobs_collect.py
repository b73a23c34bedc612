"""Collecting: what becomes of each record of a submission, by its result."""

import json
import random

import msgspec
import pytest
from batch_collect_kit import SECRET, add, one
from batch_jobs_kit import Desk, answer_body, batch_plan, failed, refusal, result, sums
from journal_kit import attempt
from worker_kit import ask

from batch_infer.protocol.text import Text
from batch_inferd.journal.names import chunk_journals
from batch_inferd.worker.batch import collect
from batch_inferd.worker.batch.messages import CollectParams
from batch_inferd.worker.strikes import MAX_STRIKES


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    yield made
    made.close()


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
