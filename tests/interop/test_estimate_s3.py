"""-estimate of a bucket's images: listed, not fetched in full, and asked about nowhere."""

import httpx
import pytest

from harness import Shell
from photo_kit import photos

moto = pytest.importorskip("moto.server")


@pytest.fixture
def endpoint(monkeypatch, caplog, tmp_path):
    caplog.set_level("WARNING", "werkzeug")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    running = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    with httpx.Client(base_url=f"http://{host}:{port}", trust_env=False) as client:
        client.post("/moto-api/reset").raise_for_status()
        client.put("/bucket").raise_for_status()
        for path in photos(tmp_path / "photos", 12, 20_000).iterdir():
            client.put(f"/bucket/photos/{path.name}", content=path.read_bytes()).raise_for_status()
    yield f"http://{host}:{port}"
    running.stop()


def test_the_images_of_a_bucket(endpoint, workspace):
    shell = Shell(workspace, AWS_ENDPOINT_URL=endpoint)
    shell.config(
        model={"domain": "test", "password": "none", "max_tokens": 100}, prices={"input": 3, "output": 12}
    )
    words = ("-estimate", "s3://bucket/photos", "-prompt", "What is it?")
    found = shell.json(*words)
    assert (found["records"], found["exact"], found["tokens"]["images"]) == (12, True, 12)
    tokens = found["tokens"]
    assert tokens["input"] == tokens["text"] + tokens["image_tokens"]
    assert found["cost"]["online"]["input"] == pytest.approx(tokens["input"] * 3.0 / 1e6)
    assert not list((workspace / "chunks").glob("*/task.db"))
    none = shell.run("-estimate", "s3://bucket/else", "-prompt", "What is it?", code=2)
    assert "no file that fits" in none.stderr
    one = shell.json(*words, "-start-row", "3", "-end-row", "4")
    assert one["tokens"]["images"] == 1
