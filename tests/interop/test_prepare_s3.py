"""-prepare out of moto's S3 over HTTP: memory that does not grow, and a connection that breaks."""

import httpx
import pytest

from harness import Shell, wait_for
from photo_kit import check, measure, photos

moto = pytest.importorskip("moto.server")
MANY = 1000


@pytest.fixture
def server(monkeypatch, caplog):
    caplog.set_level("WARNING", "werkzeug")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    running = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    yield running
    running.stop()


def address(server):
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"


def fill(server, folder):
    with httpx.Client(base_url=address(server), trust_env=False) as client:
        client.post("/moto-api/reset").raise_for_status()
        client.put("/bucket").raise_for_status()
        for path in sorted(folder.iterdir()):
            client.put(f"/bucket/photos/{path.name}", content=path.read_bytes()).raise_for_status()


def test_a_thousand_objects_take_no_more_memory_than_ten(server, tmp_path):
    folder = photos(tmp_path / "many", MANY, 500_000)
    fill(server, folder)
    few, _, peak_of_few = measure("s3://bucket/photos/000*", tmp_path / "few.jsonl", address(server))
    assert few == 10
    lines, failed, peak = measure("s3://bucket/photos/", tmp_path / "many.jsonl", address(server))
    assert (lines, failed) == (MANY, 0)
    assert peak - peak_of_few < 30 * 2**20
    check(tmp_path / "many.jsonl", folder)


def test_a_server_that_goes_and_comes_back(server, tmp_path, workspace):
    folder = photos(tmp_path / "photos", 12, 20_000)
    fill(server, folder)
    out = workspace / "out.jsonl"
    shell = Shell(
        workspace, BATCH_INFER_FAILPOINTS="prepare.written=stall:0.2", AWS_ENDPOINT_URL=address(server)
    )
    words = ("-prepare", "s3://bucket/photos", "-out", "out.jsonl", "-prompt", "What is it?")
    process = shell.start(*words)
    wait_for(lambda: out.exists() and out.read_bytes().count(b"\n") > 2, "some records")
    port = server.get_host_and_port()[1]
    server.stop()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "the same command goes on with it" in err
    before = out.read_bytes()
    server._port = port
    server.start()
    fill(server, folder)
    assert shell.json(*words)["count"] == 12
    assert out.read_bytes().startswith(before)
    check(out, folder)
