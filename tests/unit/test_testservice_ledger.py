"""The ledger tells what reached the service, what was billed, and what was delivered, whatever died."""

import asyncio
import json
import socket
import sqlite3
import threading
import time
from contextlib import closing

import httpx
import pytest

from batch_inferd.testing import ledger_writer
from batch_inferd.testing.calls import content_digest
from batch_inferd.testing.ledger import LEDGER_NAME, read_ledger, summarise
from batch_inferd.testing.ledger_writer import LedgerError, LedgerWriter, Settlement
from batch_inferd.testing.process import start_service
from batch_inferd.testing.spawn import LOG_NAME


@pytest.fixture
def service(tmp_path):
    with start_service(tmp_path / "service") as running:
        yield running


def body_for(text):
    return {"model": "m", "messages": [{"role": "user", "content": text}]}


def chat(service, text="hello", key="k"):
    url = f"{service.base_url}/chat/completions"
    return httpx.post(url, json=body_for(text), headers={"api-key": key}, trust_env=False, timeout=30)


def leave_after_sending(service, text):
    body = json.dumps(body_for(text)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\napi-key: k\r\nContent-Length: {len(body)}"
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(head.encode() + b"\r\n\r\n" + body)


def wait_until(condition, timeout_s=30):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"


def test_there_is_no_ledger_yet(tmp_path):
    assert read_ledger(tmp_path) == []
    assert summarise(tmp_path).requests == 0
    assert summarise(tmp_path).max_concurrent == 0


def test_one_row_a_request(service):
    answered = chat(service)
    httpx.get(f"{service.base_url}/models", trust_env=False)
    chat(service, key="other")
    first, refused, third = service.ledger()
    usage = answered.json()["usage"]
    assert (first.method, first.path, first.model) == ("POST", "/v1/chat/completions", "m")
    assert (first.status, first.outcome, first.delivered) == (200, "answered", True)
    assert (first.billed_in, first.billed_out) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert first.billed
    assert first.content_digest == content_digest(body_for("hello")["messages"])
    assert first.request_id == answered.headers["x-request-id"]
    assert (refused.status, refused.outcome, refused.delivered) == (401, "error_401", True)
    assert (refused.billed, refused.key_digest, refused.content_digest) == (False, None, None)
    assert third.key_digest != first.key_digest
    assert third.content_digest == first.content_digest
    assert [row.serial for row in service.ledger()] == [1, 2, 3]


def test_what_each_ending_bills(service):
    actions = ("400", "429", "500", "drop", "truncate", "garbage")
    service.control(rules=[{"contains": f"<{do}>", "do": do} for do in actions])
    for do in actions:
        try:
            chat(service, f"<{do}>")
        except httpx.RemoteProtocolError:
            assert do in ("drop", "truncate")
    told = [(row.outcome, row.status, row.billed, row.delivered) for row in service.ledger()]
    assert told == [
        ("error_400", 400, False, True),
        ("error_429", 429, False, True),
        ("error_500", 500, False, True),
        ("dropped", None, False, False),
        ("truncated", 200, True, False),
        ("garbage", 200, True, True),
    ]


def test_a_client_that_left_is_billed_and_not_delivered(service):
    service.control(rules=[{"contains": "wait", "do": "slow:0.2"}])
    leave_after_sending(service, "wait for me")
    wait_until(lambda: any(row.billed for row in service.ledger()))
    (row,) = service.ledger()
    assert (row.outcome, row.status, row.delivered) == ("answered", 200, False)
    assert "Traceback" not in (service.state_dir / LOG_NAME).read_text()


def test_a_client_that_leaves_in_mid_answer_is_billed_and_not_delivered(service):
    service.control(oversize_bytes=30_000_000)
    body = json.dumps(body_for("hello")).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\napi-key: k\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(head.encode() + body)
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        assert [(row.billed, row.delivered) for row in service.ledger()] == [(True, False)]
    chat(service)
    assert [row.delivered for row in service.ledger()] == [False, True]
    assert "Traceback" not in (service.state_dir / LOG_NAME).read_text()


def test_what_is_under_way_is_already_there(service):
    service.control(rules=[{"contains": "hang", "do": "hang"}])
    body = json.dumps(body_for("hang")).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\napi-key: k\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(head.encode() + body)
        wait_until(lambda: [row.outcome for row in service.ledger()] == ["hung"])
        assert chat(service).status_code == 200
        assert service.summary().max_concurrent == 2


def test_a_client_that_leaves_in_mid_request_never_reached_the_service(service):
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\napi-key: k\r\nContent-Length: 1000\r\n\r\n{"
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(head)
    assert chat(service).status_code == 200
    assert [row.outcome for row in service.ledger()] == ["answered"]


def test_every_answer_survives_kill_9(service):
    answers = [chat(service, f"prompt {n}") for n in range(10)]
    service.kill()
    rows = {row.request_id: row for row in service.ledger()}
    assert all(rows[answer.headers["x-request-id"]].billed for answer in answers)
    with start_service(service.state_dir) as again:
        chat(again, "prompt 0")
        assert [row.serial for row in again.ledger()] == list(range(1, 12))
        digest = content_digest(body_for("prompt 0")["messages"])
        assert again.summary().billed_twice == {digest: 2}


def test_the_summary_counts(service):
    service.control(rules=[{"contains": "bad", "do": "422"}, {"contains": "gone", "do": "drop"}])
    for text in ("a", "b", "b", "c", "c", "c", "bad"):
        chat(service, text)
    with pytest.raises(httpx.RemoteProtocolError):
        chat(service, "gone")
    summary = service.summary()
    assert summary.requests == 8
    assert summary.by_status == {"200": 6, "422": 1, "none": 1}
    assert summary.by_outcome == {"answered": 6, "error_422": 1, "dropped": 1}
    assert (summary.billed, summary.billed_again, summary.delivered) == (6, 3, 7)
    twice = {content_digest(body_for(text)["messages"]): n for text, n in (("b", 2), ("c", 3))}
    assert summary.billed_twice == twice
    assert summary.billed_in == sum(row.billed_in or 0 for row in service.ledger())
    root = service.base_url.removesuffix("/v1")
    assert httpx.get(f"{root}/_ledger/summary", trust_env=False).json() == summary._asdict()


def test_pages_over_http(service):
    for n in range(5):
        chat(service, str(n))
    with httpx.Client(base_url=service.base_url.removesuffix("/v1"), trust_env=False) as client:
        page = client.get("/_ledger", params={"since": 1, "limit": 2}).json()["rows"]
        assert [row["serial"] for row in page] == [2, 3]
        assert page == [row._asdict() for row in service.ledger()[1:3]]
        assert len(client.get("/_ledger").json()["rows"]) == 5
        for bad in ({"since": "x"}, {"limit": "-1"}, {"since": "9" * 30}):
            assert client.get("/_ledger", params=bad).status_code == 400


def test_many_concurrent_requests_have_a_row_each(service):
    async def many():
        limits = httpx.Limits(max_connections=50)
        async with httpx.AsyncClient(
            trust_env=False, timeout=60, limits=limits, headers={"api-key": "k"}
        ) as client:
            url = f"{service.base_url}/chat/completions"
            texts = [f"prompt {n}" for n in range(200)]
            return await asyncio.gather(*(client.post(url, json=body_for(text)) for text in texts))

    answers = asyncio.run(many())
    rows = service.ledger()
    assert {answer.headers["x-request-id"] for answer in answers} == {row.request_id for row in rows}
    assert all(row.billed and row.delivered for row in rows)
    assert 1 < service.summary().max_concurrent <= 50
    assert service.summary().billed_again == 0


def arrive(writer):
    return writer.arrive(
        method="POST", path="/v1/x", key_digest=None, model=None, content_digest=None, in_flight=1
    )


async def test_what_nobody_waits_for_is_committed_soon(tmp_path):
    writer = LedgerWriter(tmp_path)
    arrive(writer)
    while not (rows := await asyncio.to_thread(read_ledger, tmp_path)):
        continue
    assert (rows[0].outcome, rows[0].status) == ("received", None)
    await writer.close()


async def test_settled_means_committed(tmp_path):
    writer = LedgerWriter(tmp_path)
    serial = arrive(writer)
    await writer.settle(Settlement(serial, "answered", 200, 1, 2))
    assert [(row.outcome, row.billed_in) for row in read_ledger(tmp_path)] == [("answered", 1)]
    writer.deliver(serial)
    await writer.close()
    assert read_ledger(tmp_path)[0].delivered
    with pytest.raises(LedgerError):
        arrive(writer)


async def test_waiting_changes_share_a_commit(tmp_path, monkeypatch):
    groups = []
    begun = threading.Event()
    commit = LedgerWriter._commit

    def counting(self, group):
        groups.append(len(group))
        begun.set()
        return commit(self, group)

    monkeypatch.setattr(ledger_writer.LedgerWriter, "_commit", counting)
    writer = LedgerWriter(tmp_path)
    with closing(sqlite3.connect(tmp_path / LEDGER_NAME, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # the first group has to wait, and the rest gathers behind it
        first = asyncio.create_task(writer.settle(Settlement(arrive(writer), "answered")))
        await asyncio.sleep(0)
        assert await asyncio.to_thread(begun.wait, 30)
        rest = [asyncio.create_task(writer.settle(Settlement(arrive(writer), "answered"))) for _ in range(50)]
        await asyncio.sleep(0)
        other.execute("ROLLBACK")
    await asyncio.gather(first, *rest)
    assert sum(groups) == 102
    assert max(groups) >= 100
    await writer.close()


async def test_a_ledger_that_cannot_be_written_says_so(tmp_path):
    writer = LedgerWriter(tmp_path)
    await writer.flush()
    with closing(sqlite3.connect(tmp_path / LEDGER_NAME)) as other:
        other.execute("DROP TABLE requests")
    with pytest.raises(LedgerError, match="no such table"):
        await writer.settle(Settlement(arrive(writer), "answered"))
    await writer.close()


async def test_a_settlement_without_its_row_is_an_error(tmp_path):
    writer = LedgerWriter(tmp_path)
    with pytest.raises(LedgerError, match="a row is missing"):
        await writer.settle(Settlement(17, "answered"))
    await writer.close()


def test_a_request_whose_row_cannot_be_written_is_not_answered(service):
    chat(service)
    with closing(sqlite3.connect(service.state_dir / LEDGER_NAME)) as other:
        other.execute("DROP TABLE requests")
    response = chat(service)
    assert response.status_code == 500
    assert response.json()["error"]["type"] == "server_error"
    root = service.base_url.removesuffix("/v1")
    assert httpx.get(f"{root}/_ledger", trust_env=False).status_code == 500


async def test_a_ledger_of_another_schema_is_left_alone(tmp_path):
    with closing(sqlite3.connect(tmp_path / LEDGER_NAME)) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(LedgerError, match="schema is 99"):
        LedgerWriter(tmp_path)
