"""Batches of the service: created, looked at, listed; what is refused; and answers that are lost."""

import json
import socket
import time
import uuid

import httpx
import pytest
from batch_service_kit import CHAT, Client, error_of, requests, reset, wait_until

from batch_inferd.testing.process import start_service

HEAD = "POST /v1/batches HTTP/1.1\r\nHost: x\r\napi-key: k\r\nContent-Length: {}\r\n\r\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with start_service(tmp_path_factory.mktemp("create") / "service") as service:
        yield service


@pytest.fixture
def service(running):
    reset(running)
    return running


@pytest.fixture
def client(service):
    with Client(service) as client:
        yield client


@pytest.fixture
def file_id(client):
    return client.file(requests(2))


def test_a_batch_from_creation_to_end(client, service, file_id):
    service.control(batch_state_hold="validating")
    metadata = {"batch_infer_token": "t-1", "title": "夜"}
    created = client.good(client.create(file_id, metadata=metadata))
    now = time.time()
    assert created == {
        "id": created["id"],
        "object": "batch",
        "endpoint": CHAT,
        "model": None,
        "errors": None,
        "input_file_id": file_id,
        "completion_window": "24h",
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": pytest.approx(now, abs=30),
        "in_progress_at": None,
        "expires_at": created["created_at"] + 86400,
        "finalizing_at": None,
        "completed_at": None,
        "failed_at": None,
        "expired_at": None,
        "cancelling_at": None,
        "cancelled_at": None,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "metadata": metadata,
    }
    assert created["id"].startswith("batch_")
    assert client.retrieve(created["id"]) == created
    service.control(batch_state_hold=None)
    ended = client.wait(created["id"])
    assert ended["status"] == "completed"
    assert ended["model"] == "m"
    assert ended["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
    assert ended["output_file_id"].startswith("file-")
    assert ended["error_file_id"] is None
    assert ended["created_at"] <= ended["in_progress_at"] <= ended["finalizing_at"] <= ended["completed_at"]
    output = client.good(client.http.get(f"/files/{ended['output_file_id']}"))
    assert output["purpose"] == "batch_output"
    assert output["filename"] == f"{created['id']}_output.jsonl"


@pytest.mark.parametrize("window", ["24h", "100h", "336h", "1d", "14d"])
def test_windows_from_a_day_to_two_weeks(client, file_id, window):
    batch = client.good(client.create(file_id, completion_window=window))
    hours = int(window[:-1]) * (24 if window.endswith("d") else 1)
    assert batch["expires_at"] - batch["created_at"] == hours * 3600
    assert batch["completion_window"] == window


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"completion_window": "23h"}, "completion_window"),
        ({"completion_window": "337h"}, "completion_window"),
        ({"completion_window": "24"}, "completion_window"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"completion_window": None}, "completion_window"),
        ({"completion_window": 24}, "completion_window"),
        ({"endpoint": "/v1/responses"}, "endpoint"),
        ({"endpoint": "/v1/models"}, "endpoint"),
        ({"endpoint": None}, "endpoint"),
        ({"input_file_id": None}, "input_file_id"),
        ({"input_file_id": "file-none"}, "id"),
        ({"metadata": "x"}, "metadata"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"metadata": {"x" * 65: "x"}}, "metadata"),
        ({"metadata": {"x": "x" * 513}}, "metadata"),
    ],
)
def test_what_a_create_must_not_say(client, service, file_id, change, param):
    before = len(service.batches())
    order = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"} | change
    response = client.http.post("/batches", json=order)
    assert error_of(response)[::2] == (400, param)
    assert len(service.batches()) == before


def test_the_most_that_metadata_may_have(client, file_id):
    metadata = {f"{n:064}": "x" * 512 for n in range(16)}
    assert client.good(client.create(file_id, metadata=metadata))["metadata"] == metadata


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
def test_a_create_that_is_no_json_object(client, body):
    assert error_of(client.http.post("/batches", content=body))[0] == 400


def test_the_results_of_a_batch_are_no_input(client):
    results = client.run(requests(1))
    response = client.create(results.batch["output_file_id"])
    assert error_of(response)[::2] == (400, "input_file_id")


def test_a_batch_that_is_not_there(client):
    assert error_of(client.http.get("/batches/batch_none")) == (404, None, "batch_id")
    assert error_of(client.http.post("/batches/batch_none/cancel"))[0] == 404


def test_lists_have_pages_and_begin_with_the_newest(client, file_id):
    ids = [client.good(client.create(file_id))["id"] for _ in range(5)]
    page = client.good(client.http.get("/batches", params={"limit": 2}))
    assert page["object"] == "list"
    assert [batch["id"] for batch in page["data"]] == [ids[4], ids[3]]
    assert (page["first_id"], page["last_id"], page["has_more"]) == (ids[4], ids[3], True)
    page = client.good(client.http.get("/batches", params={"limit": 3, "after": ids[3]}))
    assert [batch["id"] for batch in page["data"]] == [ids[2], ids[1], ids[0]]
    seen, after = [], {}
    while True:
        page = client.good(client.http.get("/batches", params={"limit": 4, **after}))
        seen += [batch["id"] for batch in page["data"]]
        if not page["has_more"]:
            break
        after = {"after": page["last_id"]}
    assert seen[:5] == ids[::-1]
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 101}, {"limit": "x"}, {"after": "batch_none"}])
def test_a_bad_page_is_a_400(client, query):
    assert error_of(client.http.get("/batches", params=query))[0] == 400


def test_the_list_of_a_service_without_batches(tmp_path):
    with start_service(tmp_path) as service, Client(service) as client:
        assert client.good(client.http.get("/batches")) == {
            "object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False
        }  # fmt: skip


def test_a_create_whose_answer_is_lost(client, service, file_id):
    service.control(accept_then_reset=1)
    with pytest.raises(httpx.RemoteProtocolError):
        client.create(file_id, metadata={"batch_infer_token": "lost"})
    newest = client.good(client.http.get("/batches", params={"limit": 1}))["data"][0]
    assert newest["metadata"] == {"batch_infer_token": "lost"}
    assert service.batches()[-1].token == "lost"
    assert client.wait(newest["id"])["status"] == "completed"
    assert client.create(file_id).status_code == 200


def test_a_create_that_says_500_and_was_accepted(client, service, file_id):
    service.control(create_5xx=2, html_5xx=True)
    before = len(service.batches())
    first, second = client.create(file_id), client.create(file_id)
    assert (first.status_code, second.status_code) == (502, 502)
    assert len(service.batches()) == before + 2


def test_creates_that_are_refused_make_nothing(client, service, file_id):
    service.control(reject_create_429=1, reject_create_token_limit=1, retry_after="7")
    before = len(service.batches())
    refused = client.create(file_id)
    assert error_of(refused)[:2] == (429, "rate_limit_exceeded")
    assert refused.headers["retry-after"] == "7"
    assert error_of(client.create(file_id))[:2] == (400, "token_limit_exceeded")
    assert len(service.batches()) == before
    assert client.create(file_id).status_code == 200


def test_batches_in_flight_have_a_limit(client, service, file_id):
    for batch in service.batches():
        client.wait(batch.id)
    service.control(max_in_flight_batches=2, batch_state_hold="in_progress")
    ids = [client.good(client.create(file_id))["id"] for _ in range(2)]
    assert error_of(client.create(file_id))[:2] == (429, "batch_queue_full")
    client.cancel(ids[0])
    client.wait(ids[0], "cancelled")
    assert client.create(file_id).status_code == 200


def test_without_credit_nothing_is_created(client, service, file_id):
    service.control(credit="402")
    assert error_of(client.create(file_id))[0] == 402
    service.control(credit="insufficient_quota")
    assert error_of(client.create(file_id))[:2] == (429, "insufficient_quota")
    assert client.http.get("/batches").status_code == 200


def test_a_new_batch_is_in_no_list_for_a_while(tmp_path, monkeypatch):
    clock = tmp_path / "clock"
    clock.write_text("0")
    monkeypatch.setenv("BATCH_INFER_CLOCK_FILE", str(clock))
    with start_service(tmp_path / "s", {"list_lag_s": 3600}) as service, Client(service) as client:
        batch_id = client.batch(requests(1))
        assert client.good(client.http.get("/batches"))["data"] == []
        assert client.wait(batch_id)["status"] == "completed"
        clock.write_text("3601")
        assert [batch["id"] for batch in client.good(client.http.get("/batches"))["data"]] == [batch_id]


def test_a_client_that_leaves_after_its_create_has_created(client, service, file_id):
    order = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
    body = json.dumps(order | {"metadata": {"batch_infer_token": "left"}}).encode()
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(HEAD.format(len(body)).encode() + body)
    wait_until(lambda: any(batch.token == "left" for batch in service.batches()))


def test_a_client_that_leaves_before_that_has_not(client, service, file_id):
    before = len(service.batches())
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(HEAD.format(1000).encode() + b'{"input_file_id":')
    assert client.http.get("/batches").status_code == 200
    assert len(service.batches()) == before


def test_ids_that_are_uuids(client, service):
    service.control(batch_uuid_ids=True)
    batch = client.run(requests(1)).batch
    for name in ("id", "input_file_id", "output_file_id"):
        assert str(uuid.UUID(batch[name])) == batch[name]


def test_a_route_may_fail_for_a_while(client, service, file_id):
    service.control(batch_calls_500={"create": 1, "batches": 1, "batch": 1, "cancel": 1})
    before = len(service.batches())
    assert client.create(file_id).status_code == 500
    assert len(service.batches()) == before
    batch_id = client.good(client.create(file_id))["id"]
    assert client.http.get(f"/batches/{batch_id}").status_code == 500
    assert client.http.get("/batches").status_code == 500
    assert client.http.post(f"/batches/{batch_id}/cancel").status_code == 500
    assert client.http.get("/batches").status_code == 200
    assert client.wait(batch_id)["status"] == "completed"


def test_batches_are_shown_below_the_control_route(client, service):
    batch_id = client.run(requests(3), metadata={"batch_infer_token": "shown"}).batch["id"]
    told = httpx.get(f"http://127.0.0.1:{service.port}/_batches", trust_env=False).json()["batches"]
    assert told == [row._asdict() for row in service.batches()]
    assert (told[-1]["id"], told[-1]["token"], told[-1]["billed_lines"]) == (batch_id, "shown", 3)


@pytest.mark.parametrize(
    "controls",
    [
        {"batch_latency_s": -1},
        {"batch_latency_s": [2, 1]},
        {"batch_outcome": "lost"},
        {"batch_outcomes": ["completed", "lost"]},
        {"batch_state_hold": "completed"},
        {"batch_state_hold": "pending_review"},
        {"batch_calls_500": {"chat": 1}},
        {"batch_error_line": "none"},
        {"max_enqueued_tokens": 0},
        {"list_lag_s": -1},
        {"batch_expire_share": 1.5},
    ],
)
def test_controls_that_make_no_sense(service, controls):
    with pytest.raises(ValueError, match=r"batch|list_lag|max_enqueued|Invalid enum|Expected"):
        service.control(**controls)
