"""Files of the service: uploaded as a stream, on disk before the answer, given back byte by byte."""

import hashlib
import socket
import time

import httpx
import psutil
import pytest
from batch_service_kit import Client, error_of, jsonl, requests, reset, wait_until

from batch_inferd.testing.process import start_service
from batch_inferd.testing.spawn import LOG_NAME


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with start_service(tmp_path_factory.mktemp("files") / "service") as service:
        yield service


@pytest.fixture
def service(running):
    reset(running)
    yield running
    log = (running.state_dir / LOG_NAME).read_text()
    assert "Traceback" not in log


@pytest.fixture
def client(service):
    with Client(service) as client:
        yield client


def stored(service):
    """Names in the folder of files."""
    return {path.name for path in (service.state_dir / "files").iterdir()}


def test_an_upload_comes_back_as_it_was(client, service):
    data = jsonl(requests(3)) + b"\xff\x00\r\nno final newline"
    file = client.good(client.upload(data, "a b.jsonl"))
    assert file == {
        "id": file["id"],
        "object": "file",
        "bytes": len(data),
        "created_at": pytest.approx(time.time(), abs=30),
        "expires_at": None,
        "filename": "a b.jsonl",
        "purpose": "batch",
        "status": "processed",
        "status_details": None,
    }
    assert file["id"].startswith("file-")
    assert client.good(client.http.get(f"/files/{file['id']}")) == file
    assert client.content(file["id"]) == data
    assert (service.state_dir / "files" / file["id"]).read_bytes() == data


def test_an_empty_file_is_a_file(client):
    file = client.good(client.upload(b""))
    assert file["bytes"] == 0
    assert client.content(file["id"]) == b""


def test_the_form_may_come_in_any_order(client):
    for parts in (("purpose", "file"), ("file", "purpose")):
        body = b"".join(
            b'--x\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\nbatch\r\n'
            % (name.encode(), b'; filename="f"' if name == "file" else b"")
            for name in parts
        )
        response = client.http.post(
            "/files", content=body + b"--x--\r\n", headers={"Content-Type": "multipart/form-data; boundary=x"}
        )
        assert client.good(response)["bytes"] == 5


def test_together_has_an_upload_route_of_its_own(client):
    response = client.http.post(
        "/files/upload",
        files={"file": ("local", b"x\n")},
        data={"purpose": "batch-api", "file_name": "given.jsonl"},
    )
    assert client.good(response)["filename"] == "given.jsonl"


@pytest.mark.parametrize("prefix", ["/v1", "/openai/v1", "/api/paas/v4", "/compatible-mode/v1", ""])
def test_any_prefix_leads_to_the_same_routes(service, prefix):
    with Client(service, prefix) as client:
        results = client.run(requests(2))
        assert results.ids == ["r1", "r2"]
        page = client.good(client.http.get("/batches", params={"api-version": "1"}))
        assert page["data"][0] == results.batch
        chat = client.http.post("/chat/completions", json=requests(1)[0]["body"])
        assert chat.status_code == 200
        assert client.http.get("/models").status_code == 200


def test_lists_have_pages(client):
    ids = [client.file(b"x", f"{n}") for n in range(5)]
    page = client.good(client.http.get("/files", params={"limit": 2}))
    assert [file["id"] for file in page["data"]] == [ids[4], ids[3]]
    assert (page["first_id"], page["last_id"], page["has_more"]) == (ids[4], ids[3], True)
    page = client.good(client.http.get("/files", params={"limit": 2, "after": ids[3]}))
    assert [file["id"] for file in page["data"]] == [ids[2], ids[1]]
    everything = client.good(client.http.get("/files", params={"order": "asc"}))["data"]
    assert [file["id"] for file in everything][-5:] == ids
    assert client.good(client.http.get("/files"))["has_more"] is False
    outputs = client.good(client.http.get("/files", params={"purpose": "batch_output"}))["data"]
    assert all(file["purpose"] == "batch_output" for file in outputs)


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": "x"}, {"limit": 10_001}, {"after": "file-none"}])
def test_a_bad_page_is_a_400(client, query):
    assert error_of(client.http.get("/files", params=query))[0] == 400


def test_a_deleted_file_is_gone(client, service):
    file_id = client.file(b"x\n")
    deleted = client.good(client.http.delete(f"/files/{file_id}"))
    assert deleted == {"id": file_id, "object": "file", "deleted": True}
    assert file_id not in stored(service)
    for response in (
        client.http.get(f"/files/{file_id}"),
        client.http.get(f"/files/{file_id}/content"),
        client.http.delete(f"/files/{file_id}"),
    ):
        assert error_of(response) == (404, None, "id")
    assert error_of(client.create(file_id))[0] == 400


def test_the_input_of_a_live_batch_stays_until_its_end(client, service):
    service.control(batch_state_hold="validating")
    file_id = client.file(requests(3))
    batch_id = client.good(client.create(file_id))["id"]
    client.http.delete(f"/files/{file_id}")
    assert file_id in stored(service)
    assert client.http.get(f"/files/{file_id}").status_code == 404
    service.control(batch_state_hold=None)
    assert client.results(batch_id, "completed").ids == ["r1", "r2", "r3"]
    wait_until(lambda: file_id not in stored(service))


@pytest.mark.parametrize(
    ("form", "param"),
    [({}, "purpose"), ({"purpose": "fun"}, "purpose")],
)
def test_a_purpose_is_needed(client, service, form, param):
    before = stored(service)
    response = client.http.post("/files", files={"file": ("f", b"x")}, data=form)
    assert error_of(response) == (400, None, param)
    assert stored(service) == before


def test_a_form_without_a_file(client):
    response = client.http.post("/files", files={"other": ("f", b"x")}, data={"purpose": "batch"})
    assert error_of(response) == (400, None, "file")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"x"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nno end',
        ),
        ("multipart/form-data; boundary=x", b"nothing of it"),
    ],
)
def test_a_form_that_cannot_be_read(client, service, kind, body):
    before = stored(service)
    response = client.http.post("/files", content=body, headers={"Content-Type": kind})
    assert error_of(response)[0] == 400
    assert stored(service) == before


def test_a_file_that_is_too_large(client, service):
    service.control(batch_max_bytes=1000)
    before = stored(service)
    assert error_of(client.upload(b"x" * 1001))[0] == 413
    assert client.upload(b"x" * 1000).status_code == 200
    assert len(stored(service)) == len(before) + 1


def test_a_file_that_expires(tmp_path, monkeypatch):
    clock = tmp_path / "clock"
    clock.write_text("0")
    monkeypatch.setenv("BATCH_INFER_CLOCK_FILE", str(clock))
    with start_service(tmp_path / "own") as own, Client(own) as client:
        form = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
        file = client.good(client.upload(b"x", **form))
        assert file["expires_at"] - file["created_at"] == 3600
        clock.write_text("3601")
        assert client.http.get(f"/files/{file['id']}").status_code == 404
        assert client.good(client.http.get("/files"))["data"] == []
        assert error_of(client.upload(b"x", **{"expires_after[seconds]": "soon"}))[0] == 400


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/files"), ("POST", "/files"), ("GET", "/files/x/content"), ("GET", "/batches")],
)
def test_a_key_is_needed(service, method, path):
    response = httpx.request(method, service.base_url + path, trust_env=False)
    assert error_of(response)[0] == 401


def test_keys_and_accounts_that_are_refused(client, service):
    service.control(bad_keys=["bad"])
    with Client(service, key="bad") as other:
        assert error_of(other.upload(b"x"))[:2] == (401, "invalid_api_key")
    service.control(auth="403")
    assert error_of(client.http.get("/batches"))[0] == 403


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/files"), ("POST", "/files/x"), ("DELETE", "/batches/x"), ("GET", "/batches/x/cancel")],
)
def test_methods_that_are_not_there(client, method, path):
    assert error_of(client.http.request(method, path))[0] == 405


def test_a_large_file_goes_through_and_not_into_memory(client, service, tmp_path):
    path = tmp_path / "large"
    block = hashlib.shake_256(b"x").digest(1 << 20)
    with path.open("wb") as file:
        for _ in range(80):
            file.write(block)
    process = psutil.Process(service.pid)
    before = process.memory_info().rss
    with path.open("rb") as file:
        uploaded = client.good(
            client.http.post("/files", files={"file": ("large", file)}, data={"purpose": "batch"})
        )
    digest, peak = hashlib.sha256(), process.memory_info().rss
    with client.http.stream("GET", f"/files/{uploaded['id']}/content") as response:
        assert int(response.headers["content-length"]) == 80 << 20
        for number, chunk in enumerate(response.iter_bytes(1 << 20)):
            digest.update(chunk)
            if number % 10 == 0:
                peak = max(peak, process.memory_info().rss)
    assert digest.digest() == hashlib.sha256(block * 80).digest()
    assert peak - before < 40 << 20
    client.http.delete(f"/files/{uploaded['id']}")


def test_a_client_that_leaves_in_mid_upload_leaves_nothing(service):
    before = stored(service)
    head = (
        "POST /v1/files HTTP/1.1\r\nHost: x\r\napi-key: k\r\nContent-Length: 9000000\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        '--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    )
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(head.encode() + b"x" * 3_000_000)
        wait_until(lambda: stored(service) != before, "the upload's beginning")
    wait_until(lambda: stored(service) == before, "the upload's end")


def test_an_upload_that_is_stored_and_not_answered(client, service):
    service.control(drop_upload=1)
    with pytest.raises(httpx.RemoteProtocolError):
        client.upload(b"x\n", "lost.jsonl")
    newest = client.good(client.http.get("/files", params={"limit": 1}))["data"][0]
    assert (newest["filename"], newest["bytes"]) == ("lost.jsonl", 2)
    assert client.content(newest["id"]) == b"x\n"
    assert client.upload(b"x\n").status_code == 200


def test_an_upload_that_fails(client, service):
    service.control(upload_5xx=1)
    before = stored(service)
    assert error_of(client.upload(b"x"))[0] == 500
    assert stored(service) == before
    assert client.upload(b"x").status_code == 200


def test_a_download_that_is_cut_in_its_middle(client, service):
    file_id = client.file(b"x" * 1_000_000)
    service.control(batch_truncate_download=1)
    with client.http.stream("GET", f"/files/{file_id}/content") as response:
        assert response.headers["content-length"] == "1000000"
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
            response.read()
        assert response.num_bytes_downloaded == 500_000
    assert len(client.content(file_id)) == 1_000_000


def test_a_route_may_fail_for_a_while(client, service):
    file_id = client.file(b"x")
    service.control(batch_calls_500={"file": 2, "content": 1})
    codes = [client.http.get(f"/files/{file_id}").status_code for _ in range(3)]
    assert codes == [500, 500, 200]
    assert client.http.get(f"/files/{file_id}/content").status_code == 500
    assert client.http.get(f"/files/{file_id}/content").status_code == 200


def test_the_calls_stand_in_the_ledger_and_bill_nothing(client, service):
    before = len(service.ledger())
    file_id = client.file(b"x")
    client.content(file_id)
    client.http.get("/files/file-none")
    rows = service.ledger()[before:]
    assert [(row.method, row.path.rpartition("/v1")[2], row.status) for row in rows] == [
        ("POST", "/files", 200),
        ("GET", f"/files/{file_id}/content", 200),
        ("GET", "/files/file-none", 404),
    ]
    assert not any(row.billed for row in rows)
    assert all(row.delivered for row in rows)


def test_files_outlive_a_kill(tmp_path):
    with start_service(tmp_path / "s") as service, Client(service) as client:
        file_id = client.file(b"x\n")
        (service.state_dir / "files" / "upload-half").write_bytes(b"half")
        service.kill()
    with start_service(tmp_path / "s") as service, Client(service) as client:
        assert client.content(file_id) == b"x\n"
        assert stored(service) == {file_id}
        assert [file["id"] for file in client.good(client.http.get("/files"))["data"]] == [file_id]
