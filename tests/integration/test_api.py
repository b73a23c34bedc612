"""The Python API against a real daemon: submit, wait, results, errors, asyncio, and images from a bucket."""

import asyncio
import base64
import json
import threading
from pathlib import Path

import pytest

import batch_infer
from batch_infer import AsyncTask, Task
from harness import kill, prompts, service_config, wait_for
from image_kit import picture


@pytest.fixture
def config(service):
    return {
        "model": service_config(service),
        "backend": "online",
        "lines_per_chunk": 20,
        "execution": {"concurrency": 8},
    }


def test_submit_wait_results(workspace, service, config):
    path = prompts(workspace / "in.jsonl", 45)
    task = batch_infer.submit(path, "A", config=config, workspace=workspace, settings={"concurrency": 4})
    status = task.wait(timeout=60)
    assert (status.state, status.ok, status.ended, status.counts["output"]) == ("completed", True, True, 45)
    assert status.fields["execution"]["concurrency"] == 4
    results = list(task.results())
    assert [result.custom_id for result in results] == [f"q-{n}" for n in range(45)]
    assert all(result.ok and f"q {n}:" in (result.answer or "") for n, result in enumerate(results))
    assert results[0].status_code == 200
    assert results[0].body["choices"][0]["message"]["content"] == results[0].answer
    assert Task("A", workspace=workspace).status().counts == status.counts
    assert repr(task) == f"Task('A', workspace={str(workspace)!r})"


def test_results_with_failures_stand_in_the_order_of_the_input(workspace, service, config):
    service.control(rules=[{"contains": "q 7:", "do": "400"}])
    prompts(workspace / "in.jsonl", 25)
    task = batch_infer.submit(workspace / "in.jsonl", "A", config=config, workspace=workspace)
    assert not task.wait(60).ok
    results = list(task.results())
    assert [result.custom_id for result in results] == [f"q-{n}" for n in range(25)]
    assert [result.custom_id for result in results if not result.ok] == ["q-7"]
    assert (results[7].error, results[7].answer, results[7].status_code) == ("bad_request", None, 400)
    some = task.results()
    next(some)
    some.close()
    assert not [path for path in task.outputs.iterdir() if path.name.startswith(".")]
    service.control(rules=[])
    assert task.retry() == 1
    assert task.wait(60).ok
    assert task.export(workspace / "a.csv").read_text("utf-8-sig").startswith("custom_id,prompt,answer")


def test_a_timeout_a_daemon_that_crashes_and_a_cancel(workspace, service, config):
    service.control(latency_ms=200)
    prompts(workspace / "in.jsonl", 300)
    config["execution"] = {"concurrency": 1}
    config["limits"] = {"max_concurrency": 1}
    task = batch_infer.submit(workspace / "in.jsonl", "A", config=config, workspace=workspace)
    with pytest.raises(TimeoutError):
        task.wait(timeout=0.2)
    with pytest.raises(batch_infer.TaskConflict, match="no results yet"):
        next(task.results())
    waited = []
    waiting = threading.Thread(target=lambda: waited.append(task.wait(60)))
    waiting.start()
    daemon = json.loads((workspace / ".daemon.json").read_text())["pid"]
    _kill(daemon)
    wait_for(lambda: _pid(workspace) != daemon, "another daemon")
    task.pause()
    assert task.status().state == "paused"
    waiting.join(60)
    assert [status.reason for status in waited] == ["user"], "a person must go on with it"
    task.resume()
    task.cancel()
    status = task.wait(60)
    assert (status.state, status.ok) == ("cancelled", False)
    assert len(list(task.results())) == status.counts["input"]


def _kill(pid):
    import psutil

    kill(psutil.Process(pid))


def _pid(workspace):
    try:
        return json.loads((workspace / ".daemon.json").read_text())["pid"]
    except (OSError, ValueError):
        return None


def test_errors_have_their_classes_and_their_texts(workspace, service, config, monkeypatch):
    prompts(workspace / "in.jsonl", 3)
    with pytest.raises(batch_infer.InputError, match="does not exist"):
        batch_infer.submit(workspace / "gone.jsonl", "A", config=config, workspace=workspace)
    with pytest.raises(batch_infer.ConfigError) as caught:
        batch_infer.submit(
            workspace / "in.jsonl", "A", config=config | {"test_lines": "x"}, workspace=workspace
        )
    assert "test_lines must be a whole number" in str(caught.value.problems[0])
    with pytest.raises(batch_infer.ConfigError, match=r"config\.yaml does not exist"):
        batch_infer.submit(workspace / "in.jsonl", "A", workspace=workspace)
    with pytest.raises(batch_infer.UsageError):
        batch_infer.submit(workspace / "in.jsonl", "../A", config=config, workspace=workspace)
    with pytest.raises(batch_infer.TaskNotFound):
        Task("gone", workspace=workspace).status()
    monkeypatch.chdir(workspace)
    task = batch_infer.submit("in.jsonl", "A", config=config | {"test_lines": 2})
    assert "only the first 2 records" in task.notes[0]
    task.wait(60)
    with pytest.raises(batch_infer.TaskExists):
        batch_infer.submit("in.jsonl", "A", config=config | {"test_lines": 2})
    with pytest.raises(batch_infer.UsageError, match="does not say which format"):
        task.export("a.txt")


async def test_asyncio(workspace, service, config):
    for name in ("A", "B"):
        prompts(workspace / f"{name}.jsonl", 130, tag=name)
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())

    async def run(name):
        task = await batch_infer.submit_async(
            workspace / f"{name}.jsonl", name, config=config, workspace=workspace
        )
        await task.wait(60)
        return [result.custom_id async for result in task.results()]

    found = await asyncio.gather(run("A"), run("B"))
    ticking.cancel()
    assert found == [[f"{name}-{n}" for n in range(130)] for name in ("A", "B")]
    assert ticks > 3, "the loop went on meanwhile"
    there = AsyncTask(Task("A", workspace=workspace))
    assert (await there.status()).ok
    assert (await there.export(workspace / "a.tsv")).exists()
    with pytest.raises(batch_infer.TaskConflict):
        await there.cancel()
    service.control(latency_ms=500)
    config["execution"] = {"concurrency": 1}
    task = await batch_infer.submit_async(workspace / "A.jsonl", "slow", config=config, workspace=workspace)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(task.wait(), 0.2)
    with pytest.raises(TimeoutError):
        await task.wait(timeout=0.1)
    assert (await task.status()).state in ("preparing", "running"), "a wait that is given up changes nothing"
    await task.cancel()
    assert (await task.wait(60)).state == "cancelled"


@pytest.fixture
def bucket(monkeypatch):
    boto3 = pytest.importorskip("boto3")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="my-bucket")
        for n in range(5):
            client.put_object(Bucket="my-bucket", Key=f"images/{n}.jpg", Body=picture(seed=n))
        client.put_object(Bucket="my-bucket", Key="images/broken.jpg", Body=b"no image")
        client.close()
        yield client
    finally:
        server.stop()


def test_images_of_a_bucket(workspace, service, config, bucket):
    told = []
    manager = batch_infer.BatchInferenceManager(
        workspace, config=config, on_progress=lambda done, total: told.append((done, total))
    )
    asked = ("my-bucket", "images/", "You are a {vision} expert", "Analyze this image")
    with pytest.warns(RuntimeWarning, match=r"cannot be sent: 1; .*errors\.jsonl says why"):
        count, path = manager.prepare_image_batch_data(*asked, "claude-3-haiku-20240307")
    lines = [json.loads(line) for line in Path(path).read_bytes().splitlines()]
    assert (count, len(lines)) == (5, 5)
    assert lines[0]["recordId"] == "0.jpg"
    source = lines[0]["modelInput"]["messages"][0]["content"][0]["source"]
    assert base64.b64decode(source["data"]) == picture(seed=0)
    assert lines[0]["modelInput"]["system"] == "You are a {vision} expert"
    with (
        pytest.warns(RuntimeWarning),
        pytest.raises(batch_infer.UsageError, match="runs on Bedrock") as caught,
    ):
        manager.create_image_batch_job(*asked, "claude-3-haiku-20240307")
    assert "requests are in" in str(caught.value.hints[0])
    with pytest.warns(RuntimeWarning):
        task = manager.create_image_batch_job(*asked, "test-model", "photos")
    assert task.wait(60).ok
    assert [result.custom_id for result in task.results()] == [f"{n}.jpg" for n in range(5)]
    assert told
    with pytest.raises(batch_infer.InputError):
        manager.create_image_batch_job("my-bucket", "nothing/", "", "Analyze", "test-model")
