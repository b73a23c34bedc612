"""The failure table at work: a real worker process against a real service."""

from __future__ import annotations

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from worker_kit import FAST, Folder, TestClock, WorkerDriver, ask, make_plan

from batch_inferd.backends.plan import Retry, Timeouts
from batch_inferd.testing.process import RunningService, start_service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[WorkerDriver]:
    with WorkerDriver(tmp_path) as running:
        running.wait_for("hello")
        yield running


def requests(service: RunningService) -> int:
    return service.summary().requests


def wait_requests(service: RunningService, count: int) -> None:
    end = time.monotonic() + 60
    while requests(service) < count:
        assert time.monotonic() < end, f"{requests(service)} requests of {count}"
        time.sleep(0.02)


def test_two_hundred_records(service, worker, folder):
    folder.add(ask(f"question {n}", custom_id=f"q-{n}") for n in range(1, 201))
    lease = worker.begin(make_plan(service.base_url), folder.lease(), slots=16)
    sealed = worker.sealed()
    assert sealed["lease"] == lease
    assert sealed["counts"] == {
        "input": 200, "blank": 0, "answered": 200, "error": 0, "missing": 0, "retries": 0, "throttled": 0,
        "in_flight": 0, "waiting": 0, "unstarted": 0, "tokens_unknown": 0,
        "tokens_cached": 0, "batch_in": 0, "batch_out": 0, "batch_cached": 0,
        "tokens_in": service.summary().billed_in, "tokens_out": service.summary().billed_out,
    }  # fmt: skip
    assert sealed["bytes"] == (folder.path / sealed["journal"]).stat().st_size
    answers = folder.records("answer")
    assert sorted(answers) == list(range(1, 201))
    for line, entry in answers.items():
        assert entry["rec"]["custom_id"] == f"q-{line}"
        assert f"question {line}”" in entry["rec"]["response"]["body"]["choices"][0]["message"]["content"]
        assert entry["attempt"] == 1
    assert service.summary().max_concurrent <= 16
    worker.send("shutdown", mode="drain")
    assert worker.wait_end() == 0
    assert worker.account_sum("ok") == 200


def test_all_kinds_of_lines(service, worker, folder):
    big = "x" * 5_000_000
    folder.add(
        [
            b"\xef\xbb\xbf" + ask("first", custom_id="same"),
            b"not json",
            b"",
            b' \t{"messages":[{"role":"user","content":"crlf"}],"custom_id":7}\r',
            b"\r",
            b'{"prompt":"no messages"}',
            ask(big),
            b'{"messages":["\xff"]}',
            '{"messages":[{"role":"user","content":"a\u2028b\u0085c"}]}'.encode(),
            ask("same", custom_id="same"),
            b'{"messages":["' + b"y" * (9 * 1024 * 1024),
            b'{"custom_id":"b","method":"POST","url":"/v1/embeddings","body":{"input":"text"}}',
            b'{"custom_id":"c","method":"POST","url":"/v1/other","body":{}}',
            ask("the last one has no newline"),
        ],
        end=b"",
    )
    worker.begin(make_plan(service.base_url), folder.lease())
    counts = worker.sealed()["counts"]
    assert (counts["input"], counts["blank"], counts["answered"], counts["error"]) == (12, 2, 7, 5)
    answers, errors = folder.records("answer"), folder.records("error")
    assert sorted(answers) == [1, 4, 7, 9, 10, 12, 14]
    assert sorted(errors) == [2, 6, 8, 11, 13]
    assert [answers[n]["rec"]["custom_id"] for n in sorted(answers)] == [
        "same", "7", "7", "9", "same", "b", "14",
    ]  # fmt: skip
    assert answers[12]["rec"]["response"]["body"]["data"]
    assert requests(service) == 7
    for entry in errors.values():
        assert (entry["class"], entry["attempt"], entry["rec"]["response"]) == ("invalid_input", 0, None)
        assert entry["rec"]["error"]["code"] == "invalid_input"
    assert errors[2]["rec"]["error"]["raw"] == "not json"
    assert errors[8]["rec"]["error"]["raw"] == '{"messages":["\ufffd"]}'
    assert errors[11]["rec"]["error"]["raw_truncated"] is True
    assert "allowed are 8388608" in errors[11]["rec"]["error"]["message"]
    assert errors[13]["rec"]["custom_id"] == "c"
    assert "/v1/embeddings" in errors[13]["rec"]["error"]["message"]


def test_500s_are_retried_and_counted(service, worker, folder):
    service.control(error_rate=0.3, seed=7)
    folder.add(ask(f"q{n}") for n in range(200))
    plan = make_plan(service.base_url, retry=Retry(max_count=20, base_s=0.001, cap_s=0.01))
    worker.begin(plan, folder.lease(), slots=16)
    counts = worker.sealed()["counts"]
    failed = service.summary().by_status["500"]
    assert failed > 20
    assert (counts["answered"], counts["retries"]) == (200, failed)
    attempts = [entry for entry in folder.entries() if entry["k"] == "attempt"]
    assert {(entry["class"], entry["status"], entry["charged"]) for entry in attempts} == {
        ("server_error", 500, True)
    }
    assert requests(service) == 200 + failed


@pytest.mark.parametrize(
    ("action", "cls", "status"),
    [
        ("drop", "reset", None),
        ("truncate", "truncated", None),
        ("garbage", "unparsable", 200),
        ("500", "server_error", 500),
        ("hang", "timeout", None),
    ],
)
def test_a_record_that_fails_each_time_ends_as_an_error(service, worker, folder, action, cls, status):
    service.control(rules=[{"contains": "poison", "do": action}])
    folder.add([ask("good 1"), ask("poison"), ask("good 2")])
    worker.begin(make_plan(service.base_url, timeouts=Timeouts(5.0, 0.3, 10.0)), folder.lease())
    counts = worker.sealed()["counts"]
    assert (counts["answered"], counts["error"], counts["retries"]) == (2, 1, 3)
    error = folder.records("error")[2]
    assert (error["class"], error["attempt"]) == (cls, 4)
    assert (error["rec"]["error"]["code"], error["rec"]["error"]["attempts"]) == (cls, 4)
    response = error["rec"]["response"]
    assert (response and response["status_code"]) == status
    assert requests(service) == 6
    assert worker.logs() or worker.wait_for("log")


def test_a_record_that_fails_twice_is_answered(service, worker, folder):
    service.control(rules=[{"contains": "moody", "do": "drop", "times": 2}])
    folder.add([ask("moody")])
    worker.begin(make_plan(service.base_url), folder.lease())
    counts = worker.sealed()["counts"]
    assert (counts["answered"], counts["retries"]) == (1, 2)
    assert folder.records("answer")[1]["attempt"] == 3
    waits = [entry["not_before"] - entry["t"] for entry in folder.entries() if entry["k"] == "attempt"]
    assert all(0 <= wait <= FAST.cap_s + 0.01 for wait in waits)


@pytest.mark.parametrize(
    ("status", "cls"), [("400", "bad_request"), ("404", "not_found"), ("422", "unprocessable")]
)
def test_the_records_own_fault_ends_it_at_once(service, worker, folder, status, cls):
    service.control(rules=[{"contains": "wrong", "do": status}])
    folder.add([ask("fine"), ask("wrong")])
    worker.begin(make_plan(service.base_url), folder.lease())
    assert worker.sealed()["counts"]["error"] == 1
    error = folder.records("error")[2]
    assert (error["class"], error["attempt"]) == (cls, 1)
    assert error["rec"]["response"]["status_code"] == int(status)
    assert error["rec"]["response"]["body"]["error"]["message"]
    assert requests(service) == 2


def test_retry_after_is_obeyed_by_the_whole_account(tmp_path, service, folder):
    clock = TestClock(tmp_path / "clock")
    with WorkerDriver(tmp_path, BATCH_INFER_CLOCK_FILE=str(clock.path)) as worker:
        service.control(storm_429=4, retry_after="600")
        folder.add(ask(f"q{n}") for n in range(20))
        worker.begin(make_plan(service.base_url), folder.lease(), slots=4)
        report = worker.wait_for("report", lambda p: p["accounts"].get("acc-1", {}).get("throttled"))
        while worker.account_sum("throttled") < 4:
            report = worker.wait_for("report")
        account = report["accounts"]["acc-1"]
        assert 600 <= account["retry_after"] <= 602
        assert account["waiting"]["code"] == "rate_limit"
        clock.advance(590)
        worker.account(slots=4)  # the daemon's word does not shorten what the service asked for
        assert requests(service) == 4
        clock.advance(12)
        counts = worker.sealed()["counts"]
    assert (counts["answered"], counts["throttled"], counts["retries"], counts["error"]) == (20, 4, 0, 0)
    assert requests(service) == 24
    attempts = [entry for entry in folder.entries() if entry["k"] == "attempt"]
    assert {(entry["class"], entry["charged"]) for entry in attempts} == {("rate_limited", False)}
    first_again = sorted(folder.records("answer").values(), key=lambda entry: entry["t"])[:4]
    assert {entry["line"] for entry in first_again} <= {1, 2, 3, 4, 5, 6, 7, 8}


def test_429s_without_or_with_a_nonsense_retry_after_back_off(service, worker, folder):
    service.control(rate_429=0.3, retry_after="a while", seed=3)
    folder.add(ask(f"q{n}") for n in range(60))
    worker.begin(make_plan(service.base_url, retry=Retry(3, 0.005, 0.02)), folder.lease(), slots=4)
    counts = worker.sealed()["counts"]
    assert (counts["answered"] + counts["error"], counts["retries"]) == (60, 0)
    assert counts["throttled"] >= 5


def test_a_429_that_only_one_record_meets_ends_it(service, worker, folder):
    service.control(rules=[{"contains": "greedy", "do": "429"}], latency_ms=5)
    folder.add([ask("greedy"), *(ask(f"q{n}") for n in range(100))])
    worker.begin(make_plan(service.base_url, retry=Retry(3, 0.01, 0.05)), folder.lease(), slots=2)
    counts = worker.sealed()["counts"]
    assert (counts["answered"], counts["error"], counts["retries"]) == (100, 1, 0)
    error = folder.records("error")[1]
    assert error["class"] == "rate_limited"
    assert [e["strikes"] for e in folder.entries() if e["k"] == "attempt"][-1] == 4


def test_a_429_that_says_too_large_ends_the_record(service, worker, folder):
    service.control(rules=[{"contains": "giant", "do": "429_too_large"}])
    folder.add([ask("giant"), ask("small")])
    worker.begin(make_plan(service.base_url), folder.lease())
    worker.sealed()
    assert folder.records("error")[1]["class"] == "too_large"
    assert requests(service) == 2


def test_an_outage_uses_up_no_retry(tmp_path, worker, folder):
    service = start_service(tmp_path / "s", {"latency_ms": [5, 30]})
    folder.add(ask(f"q{n}") for n in range(120))
    plan = make_plan(service.base_url, retry=Retry(max_count=0, base_s=0.05, cap_s=0.2))
    worker.begin(plan, folder.lease(), slots=8)
    wait_requests(service, 30)
    service.kill()
    waiting = worker.wait_for(
        "report", lambda p: (p["accounts"].get("acc-1", {}).get("waiting") or {}).get("code") == "network"
    )["accounts"]["acc-1"]["waiting"]
    assert f"127.0.0.1:{service.port}" in str(waiting["text"])
    assert "refused" in str(waiting["text"])
    assert waiting["since"] <= time.time()
    worker.wait_for("report", lambda p: "acc-1" in p["accounts"])  # it goes on looking
    with start_service(tmp_path / "s") as again:
        assert again.port == service.port
        counts = worker.sealed()["counts"]
    assert (counts["answered"], counts["error"], counts["retries"]) == (120, 0, 0)
    failed = [entry for entry in folder.entries() if entry["k"] == "attempt"]
    assert failed
    assert all(not entry["charged"] and entry["outages"] == 1 for entry in failed)
    assert any("waiting: cannot connect" in line for line in worker.logs())


def test_a_service_that_is_not_there_at_the_start(tmp_path, worker, folder):
    with start_service(tmp_path / "s") as service:
        url = service.base_url
    folder.add([ask("patience")])
    worker.begin(make_plan(url, retry=Retry(0, 0.05, 0.2)), folder.lease())
    worker.wait_for("report", lambda p: p["accounts"].get("acc-1", {}).get("waiting"))
    with start_service(tmp_path / "s"):
        assert worker.sealed()["counts"]["answered"] == 1
    assert folder.kinds() == {"answer": 1}
    assert folder.records("answer")[1]["attempt"] == 1


def test_401_blocks_the_account_until_the_daemon_speaks(service, worker, folder):
    service.control(auth="401")
    folder.add(ask(f"q{n}") for n in range(50))
    worker.begin(make_plan(service.base_url), folder.lease(), slots=4)
    blocked = worker.wait_for("blocked")
    assert (blocked["account"], blocked["task"], blocked["code"], blocked["status"]) == (
        "acc-1", "uuid-1", "auth", 401,
    )  # fmt: skip
    assert "Incorrect API key" in str(blocked["text"]) or "credential" in str(blocked["text"])
    worker.wait_for(
        "report", lambda p: any(not c["in_flight"] and c["waiting"] for c in p["leases"].values())
    )
    sent = requests(service)
    assert sent <= 4
    service.control(auth="ok")
    worker.account(slots=4)
    counts = worker.sealed()["counts"]
    assert (counts["answered"], counts["retries"]) == (50, 0)
    assert len(worker.all("blocked")) == 1
    attempts = [entry for entry in folder.entries() if entry["k"] == "attempt"]
    assert len(attempts) == sent
    assert {(entry["class"], entry["charged"]) for entry in attempts} == {("auth", False)}


def test_a_mended_plan_takes_over_a_blocked_task(service, worker, folder):
    service.control(bad_keys=["sk-very-secret-key"])
    folder.add(ask(f"q{n}") for n in range(20))
    worker.begin(make_plan(service.base_url), folder.lease(), slots=2)
    worker.wait_for("blocked")
    headers = {"Authorization": "Bearer sk-mended-key"}
    worker.plan(make_plan(service.base_url, version=2, account="acc-2", headers=headers))
    worker.account(slots=2, account="acc-2")
    assert worker.sealed()["counts"]["answered"] == 20


def test_no_credit_blocks_and_a_probe_goes_through(service, worker, folder):
    service.control(credit="insufficient_quota")
    folder.add(ask(f"q{n}") for n in range(20))
    worker.begin(make_plan(service.base_url), folder.lease(), slots=4)
    assert worker.wait_for("blocked")["code"] == "credit"
    worker.wait_for("report", lambda p: any(not c["in_flight"] for c in p["leases"].values()))
    before = requests(service)
    worker.account(slots=1)  # the daemon lets one call through to probe
    assert worker.wait_for("blocked")["code"] == "credit"
    assert requests(service) == before + 1
    service.control(credit="ok")
    worker.account(slots=4)
    assert worker.sealed()["counts"]["answered"] == 20


def test_no_such_model_blocks_the_task_and_not_the_account(tmp_path, service, worker, folder):
    service.control(unknown_models=["test-model"])
    other = Folder(tmp_path, "uuid-2", "other")
    other.add(ask(f"other {n}") for n in range(20))
    folder.add([ask("own wrong model", model="test-model"), ask("x"), ask("own model", model="good")])
    plan = make_plan(service.base_url)
    worker.begin(plan, folder.lease(), slots=1)
    blocked = worker.wait_for("blocked")
    assert (blocked["code"], blocked["task"], blocked["status"]) == ("model", "uuid-1", 404)
    defaults = {"chat": {"model": "good"}}
    worker.plan(make_plan(service.base_url, task="uuid-2", defaults=defaults))
    sealed_lease = worker.lease(other.lease())
    sealed = worker.sealed()
    assert (sealed["lease"], sealed["counts"]["answered"]) == (sealed_lease, 20)
    worker.plan(make_plan(service.base_url, version=2, defaults=defaults))
    counts = worker.sealed()["counts"]
    # The first line names the model itself: under the mended plan that is its own fault.
    assert (counts["answered"], counts["error"]) == (2, 1)
    assert folder.records("error")[1]["class"] == "model"


def test_tasks_on_one_account_share_it(tmp_path, service, worker, folder):
    service.control(latency_ms=5)
    folder.add(ask(f"huge {n}") for n in range(400))
    late = Folder(tmp_path, "uuid-2", "late")
    late.add(ask(f"late {n}") for n in range(20))
    worker.begin(make_plan(service.base_url), folder.lease(), slots=4)
    wait_requests(service, 20)
    worker.plan(make_plan(service.base_url, task="uuid-2"))
    small = worker.lease(late.lease())
    assert worker.sealed()["lease"] == small
    assert len(folder.records("answer")) < 350
    worker.sealed()


def test_a_rate_is_kept(tmp_path, service, folder):
    clock = TestClock(tmp_path / "clock")
    with WorkerDriver(tmp_path, BATCH_INFER_CLOCK_FILE=str(clock.path)) as worker:
        folder.add(ask(f"q{n}") for n in range(10))
        worker.plan(make_plan(service.base_url))
        worker.account(slots=10, rate=0.001)
        worker.lease(folder.lease())
        wait_requests(service, 1)
        for count in (2, 3):
            clock.advance(1000)
            wait_requests(service, count)
        assert requests(service) == 3
        worker.account(slots=10, rate=None)
        clock.advance(1000)
        worker.sealed()


def test_pretty_bodies_become_one_line_and_stay_as_they_were(service, worker, folder):
    service.control(pretty="crlf")
    folder.add([ask("pretty")])
    worker.begin(make_plan(service.base_url), folder.lease())
    worker.sealed()
    body = folder.records("answer")[1]["rec"]["response"]["body"]
    assert "pretty" in body["choices"][0]["message"]["content"]


def test_an_answer_over_the_cap_ends_the_record(service, worker, folder):
    service.control(oversize_bytes=200_000)
    folder.add([ask("much")])
    worker.begin(make_plan(service.base_url, max_response_bytes=100_000), folder.lease())
    assert worker.sealed()["counts"]["error"] == 1
    assert folder.records("error")[1]["class"] == "response_too_large"
    assert requests(service) == 1


class Echo(BaseHTTPRequestHandler):
    """A service that repeats the credential in its errors, as some do."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        key = self.headers["authorization"]
        text = {"error": {"message": f"bad key {key} ({key.split()[1]})", "param": key}}
        body = json.dumps(text).encode()
        self.send_response(400)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-ratelimit-remaining-requests", "59")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def test_a_secret_stands_nowhere(tmp_path, worker, folder):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        folder.add([ask("x")])
        worker.begin(make_plan(f"http://127.0.0.1:{server.server_address[1]}/v1"), folder.lease())
        worker.sealed()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    worker.send("shutdown", mode="drain")
    worker.wait_end()
    error = folder.records("error")[1]["rec"]
    assert error["error"]["message"] == "HTTP 400: bad key *** (***)"
    assert error["response"]["body"]["error"]["param"] == "***"
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"sk-very-secret-key" not in written + str(worker.messages).encode()
    assert worker.all("report")[-1]["accounts"]["acc-1"]["quota"] == {"x-ratelimit-remaining-requests": "59"}
