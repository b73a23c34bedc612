"""llmock's batches, not ours either: no final newline, UUIDs as line ids, 500s and 429s on every route."""

import json

import pytest
from servers import VENV, running

from harness import Outputs, prompts

LLMOCK = VENV / "bin/llmock"
RECORDS = 60
QUICK = {"settle": "2s", "poll": {"first": "0.2s", "max": "1s"}}


@pytest.fixture
def llmock(tmp_path, request):
    if not LLMOCK.exists():
        pytest.fail("llmock is not installed: pip install -e '.[interop]'")
    with running([str(LLMOCK), "serve", *getattr(request, "param", [])], tmp_path, "/health") as server:
        yield server


def config(shell, server, **changes):
    shell.config(
        model={"domain": f"{server.url}/v1", "name": "gpt-4o-mini", "password": "sk-x", "max_tokens": 16},
        backend="batch",
        batch=QUICK,
        **changes,
    )


def seen(server, method, path):
    """The status of each request to a path, in order."""
    requests = server.get("/_llmock/requests")["requests"]
    return [entry["status"] for entry in requests if (entry["method"], entry["path"]) == (method, path)]


def check_all_answered(shell, server, batches=3):
    out = Outputs(shell.workspace, "A")
    out.check_identity(RECORDS)
    assert out.ids == [f"q-{n}" for n in range(RECORDS)]
    assert out.report["attempts"]["retries"] == 0
    assert out.report["paths"] == {"batch": RECORDS}
    assert seen(server, "POST", "/v1/batches").count(200) == batches


def test_batches_that_complete(shell, llmock):
    config(shell, llmock)
    prompts(shell.workspace / "in.jsonl", RECORDS)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    check_all_answered(shell, llmock)
    assert seen(llmock, "POST", "/v1/files") == [200] * 3


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/files", 500),
        ("/v1/files", 429),
        ("/v1/batches", 500),
        ("/v1/batches", 429),
        ("/v1/batches/*", 503),
        ("/v1/batches/*", 429),
        ("/v1/files/*/content", 500),
        ("/v1/files/*/content", 429),
    ],
)
def test_one_route_fails_for_a_while(shell, llmock, path, status):
    failure = {"type": "fail", "status": status, "times": 2, "match": {"path": path}}
    if status == 429:
        failure["retry_after"] = 1
    llmock.post("/_llmock/scenario", {"behaviors": [failure]})
    config(shell, llmock, max_retry_count=0)
    prompts(shell.workspace / "in.jsonl", RECORDS)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", timeout=100)
    check_all_answered(shell, llmock)
    assert llmock.get("/_llmock/scenario")["pending"] == [], "the failure was met"
    verdict = llmock.get("/_llmock/verdict")
    assert verdict["passed"], verdict["findings"]


@pytest.mark.parametrize("llmock", [["--rpm", "240", "--error-rate", "500=0.1"]], indirect=True)
def test_llmock_passes_our_conduct(shell, llmock):
    config(shell, llmock, max_retry_count=0, lines_per_chunk=10)
    prompts(shell.workspace / "in.jsonl", RECORDS)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", timeout=110)
    check_all_answered(shell, llmock, batches=6)
    verdict = llmock.get("/_llmock/verdict")
    assert verdict["passed"], verdict["findings"]


def test_embeddings_and_lines_that_it_cannot_do(shell, llmock):
    """A batch of one endpoint each; the one whose lines all fail ends `failed`, with an error file."""
    config(shell, llmock, max_retry_count=1)
    lines = [
        {
            "custom_id": f"{url.rsplit('/', 1)[1]}-{n}",
            "method": "POST",
            "url": url,
            "body": {"model": "gpt-4o-mini", **body},
        }
        for n in range(5)
        for url, body in (
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": f"hello {n}"}]}),
            ("/v1/embeddings", {"input": f"hello {n}"}),
            ("/v1/responses", {"input": f"hello {n}"}),
        )
    ]
    (shell.workspace / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=1, timeout=100)
    out = Outputs(shell.workspace, "A")
    out.check_identity(15)
    assert {line["custom_id"].split("-")[0] for line in out.output} == {"completions", "embeddings"}
    assert len(out.output) == 10
    assert [line["custom_id"] for line in out.errors] == [f"responses-{n}" for n in range(5)]
    assert all("Unsupported batch endpoint" in line["error"]["message"] for line in out.errors)
