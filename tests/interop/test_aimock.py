"""@copilotkit/aimock, a batch server from npm that is not ours: sparse objects, and batches that fail."""

import json
import os
import shutil

import pytest
from servers import AIMOCK, node, running

from harness import Outputs, prompts, wait_for

RECORDS = 60
OUTCOME = "X-AIMock-Batch-Outcome"


@pytest.fixture
def aimock(tmp_path):
    if not AIMOCK.exists():
        hint = f"aimock is not installed in {AIMOCK}: `make test` installs it with npm, see the Makefile"
        if "CI" not in os.environ and shutil.which("npm") is None:
            pytest.skip(hint)
        pytest.fail(hint)
    folder = tmp_path / "aimock"
    folder.mkdir()
    fixture = {"match": {}, "response": {"content": "an online answer"}}
    (folder / "fixtures.json").write_text(json.dumps({"fixtures": [fixture]}))
    command = [node(), str(AIMOCK / "dist/cli.js"), "--fixtures", "fixtures.json", "--journal-max", "0"]
    with running(command, folder, "/__aimock/health") as server:
        yield server


def config(shell, server, *, headers=None, batch=None, **changes):
    """Three chunks of the batch backend; headers go with every request."""
    shell.config(
        model={"domain": f"{server.url}/v1", "name": "gpt-4o", "password": "sk-x", "max_tokens": 16}
        | ({"headers": headers} if headers else {}),
        backend="batch",
        batch={"settle": "2s", "poll": {"first": "0.1s", "max": "0.5s"}} | (batch or {}),
        **changes,
    )
    prompts(shell.workspace / "in.jsonl", RECORDS)


def batches(server):
    """All that were ever accepted."""
    return server.get("/v1/batches", limit=100)["data"]


def texts(outputs):
    return {line["response"]["body"]["choices"][0]["message"]["content"] for line in outputs}


def test_batches_that_complete(shell, aimock):
    config(shell, aimock)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    out = Outputs(shell.workspace, "A")
    out.check_identity(RECORDS)
    assert out.ids == [f"q-{n}" for n in range(RECORDS)]
    assert texts(out.output) == {"Mock batch completion"}
    assert out.report["paths"] == {"batch": RECORDS}
    assert len(batches(aimock)) == 3
    assert len({batch["input_file_id"] for batch in batches(aimock)}) == 3
    # What was uploaded does not stay there.
    wait_for(lambda: not aimock.get("/v1/files", purpose="batch")["data"], "the uploads to be deleted")


@pytest.mark.parametrize("outcome", ["failed", "expired", "cancelled"])
def test_batches_that_end_badly(shell, aimock, outcome):
    config(shell, aimock, headers={OUTCOME: outcome}, max_retry_count=1)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=1, timeout=100)
    out = Outputs(shell.workspace, "A")
    out.check_identity(RECORDS)
    assert len(out.errors) == RECORDS
    assert {line["error"]["attempts"] for line in out.errors} == {2}
    assert out.report["attempts"]["retries"] == RECORDS
    if outcome == "failed":  # its error file says so of each line
        assert all("Mock batch failure" in line["error"]["message"] for line in out.errors)
    else:
        assert {line["error"]["code"] for line in out.errors} == {outcome}
    found = batches(aimock)
    assert {batch["status"] for batch in found} == {outcome}
    assert 4 <= len(found) <= 6, "three batches, and what is left of them again: pooled or not"


@pytest.mark.parametrize("outcome", ["failed", "expired"])
def test_stragglers_go_online(shell, aimock, outcome):
    config(shell, aimock, headers={OUTCOME: outcome}, max_retry_count=0, batch={"fallback": "online"})
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", timeout=100)
    out = Outputs(shell.workspace, "A")
    out.check_identity(RECORDS)
    assert texts(out.output) == {"an online answer"}
    assert out.report["paths"] == {"online": RECORDS}
    assert len(batches(aimock)) == 3


def test_a_cancel_reaches_the_batches(shell, aimock):
    # Its batches move only when they are looked at: so they are live until the cancel.
    config(shell, aimock, batch={"poll": {"first": "1h", "max": "1h"}})
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for(lambda: shell.status("A")["batches"]["live"] == 3, "three batches")
    shell.run("-cancel", "A")
    wait_for(lambda: shell.status("A")["state"] == "cancelled", "the cancel")
    out = Outputs(shell.workspace, "A")
    out.check_identity(RECORDS)
    assert len(out.missing) == RECORDS
    assert {batch["status"] for batch in batches(aimock)} == {"cancelled"}


def test_disconnects_errors_and_garbage_on_every_route(shell, aimock):
    chaos = {"Drop": 0.05, "Malformed": 0.05, "Disconnect": 0.05, "Ratelimit": 0.05}
    config(
        shell, aimock, headers={f"X-AIMock-Chaos-{name}": str(rate) for name, rate in chaos.items()},
        max_retry_count=0,
    )  # fmt: skip
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", timeout=100)
    out = Outputs(shell.workspace, "A")
    out.check_identity(RECORDS)
    assert out.ids == [f"q-{n}" for n in range(RECORDS)]
    assert len(batches(aimock)) == 3, "a create without an answer is settled, not repeated"
    assert out.report["attempts"]["retries"] == 0
