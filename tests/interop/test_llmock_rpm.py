"""llmock's request limit, two workers: what they are told they keep to, and no call is refused."""

import json
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from servers import running

from harness import Outputs

LLMOCK = Path(sys.executable).with_name("llmock")
RPM = 600
RECORDS = 120
KEY = "sk-x"


@pytest.fixture
def llmock(tmp_path):
    """Its bucket is empty: from now on it takes no more than its rate."""
    if not LLMOCK.exists():
        pytest.fail("llmock is not installed: pip install -e '.[interop]'")
    with running([str(LLMOCK), "serve", "--rpm", str(RPM)], tmp_path, "/health") as server:
        drain(server.url)
        yield server


def drain(url):
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=url, trust_env=False, timeout=10, headers=headers) as client:
        for n in range(2 * RPM):
            body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": f"drain {n}"}]}
            reply = client.post("/v1/chat/completions", json=body).raise_for_status()
            if int(reply.headers["x-ratelimit-remaining-requests"]) <= 1:
                return
    raise AssertionError("the bucket did not become empty")


def submit(shell, llmock, **limits):
    shell.config(
        model={"domain": f"{llmock.url}/v1", "name": "gpt-4o-mini", "password": KEY, "max_tokens": 16},
        lines_per_chunk=10,
        execution={"concurrency": 16, "mode": "multiprocessing", "processes": 2},
        limits=limits,
    )
    lines = ({"messages": [{"role": "user", "content": f"unique prompt {n}"}]} for n in range(RECORDS))
    (shell.workspace / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", timeout=60)
    out = Outputs(shell.workspace, "A")
    out.check_identity(RECORDS)
    assert len(out.output) == RECORDS
    return out


def refused(out):
    return out.report["attempts"]["classes"].get("rate_limited", 0)


def check_conduct(llmock):
    verdict = subprocess.run(
        [str(LLMOCK), "report", "--url", llmock.url], capture_output=True, text=True, timeout=30, check=False
    )
    assert verdict.returncode == 0, re.sub(r"\s+\n", "\n", verdict.stdout + verdict.stderr)


def test_the_limit_is_set(shell, llmock):
    out = submit(shell, llmock, rpm=RPM)
    check_conduct(llmock)
    assert refused(out) == 0


def test_the_limit_is_told_by_headers(shell, llmock):
    out = submit(shell, llmock)
    check_conduct(llmock)
    assert refused(out) <= 5  # at the beginning, when nothing is known and its bucket is empty
