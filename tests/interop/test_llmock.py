"""llmock, a chaos server that is not ours, judges how we retry."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from harness import Outputs, wait_for

LLMOCK = Path(sys.executable).with_name("llmock")


@pytest.fixture
def llmock(tmp_path):
    if not LLMOCK.exists():
        pytest.fail("llmock is not installed: pip install -e '.[interop]'")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    log = (tmp_path / "llmock.log").open("wb")
    process = subprocess.Popen(
        [str(LLMOCK), "serve", "--port", str(port), "--rpm", "900", "--error-rate", "500=0.05"],
        stdout=log, stderr=subprocess.STDOUT, cwd=tmp_path, env=os.environ | {"NO_COLOR": "1"},
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"

    def up():
        try:
            return httpx.get(url, trust_env=False, timeout=1)
        except httpx.TransportError:
            assert process.poll() is None, (tmp_path / "llmock.log").read_text()
            return None

    wait_for(up, "llmock")
    yield url
    process.terminate()
    process.wait(10)
    log.close()


def test_llmock_passes_our_retry_conduct(shell, llmock, tmp_path):
    shell.config(
        model={"domain": f"{llmock}/v1", "name": "gpt-4o-mini", "password": "sk-x", "max_tokens": 16},
        max_retry_count=8,
        execution={"concurrency": 16},
    )
    count = 400
    (shell.workspace / "in.jsonl").write_text(
        "".join(
            json.dumps({"messages": [{"role": "user", "content": f"unique prompt {n}"}]}) + "\n"
            for n in range(count)
        )
    )
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", timeout=110)
    out = Outputs(shell.workspace, "A")
    out.check_identity(count)
    assert len(out.output) == count
    verdict = subprocess.run(
        [str(LLMOCK), "report", "--url", llmock], capture_output=True, text=True, timeout=30, check=False
    )
    assert verdict.returncode == 0, re.sub(r"\s+\n", "\n", verdict.stdout + verdict.stderr)
