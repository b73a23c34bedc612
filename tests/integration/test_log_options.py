"""-log-dir, -log-level and logging.format: where a task's log stands, what it says, and how."""

import json
import stat
from pathlib import Path

import pytest

from harness import Outputs, kill, prompts, service_config, wait_for

PRICES = {"input": 1000, "output": 2000}


@pytest.fixture
def config(shell, service):
    def write(**changes):
        return shell.config(model=service_config(service), **changes)

    return write


def submit(shell, *words, name="in.jsonl", code=0):
    return shell.run("-pipeline", name, "-task-id", "A", "-wait", *words, code=code)


def test_json_in_another_folder(shell, config, service):
    config(logging={"format": "json", "level": "error", "dir": "unused"}, prices=PRICES)
    (shell.workspace / "in.csv").write_text("prompt,name\nhello,a\nworld,b\n")
    refused = submit(shell, "-log-dir", "in.csv", "-log-level", "info", name="in.csv", code=2)
    assert "logs cannot be written to" in refused.stderr
    wrong = submit(shell, "-log-level", "loud", name="in.csv", code=2)
    assert "log_level must be one of debug, info, warning, error" in wrong.stderr
    submit(shell, "-log-dir", "elsewhere/deep", "-log-level", "info", name="in.csv")
    Outputs(shell.workspace, "A").check_identity(2)
    folder = shell.workspace / "elsewhere" / "deep"
    (path,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert shell.status("A")["log"] == str(path)
    assert not list((shell.workspace / "logs").glob("A_*.log"))
    wait_for(lambda: "report.json: " in path.read_text(), "the last lines")
    printed = shell.run("-logs", "A").stdout
    assert printed == path.read_text()
    records = [json.loads(line) for line in printed.splitlines()]
    assert all(set(r) == {"time", "level", "process", "thread", "task", "chunk", "message"} for r in records)
    assert {record["task"] for record in records} == {"A"}
    messages = [record["message"] for record in records]
    assert any("in.csv: csv, records not counted, 2 columns: prompt, name; " in text for text in messages)
    assert any(text.startswith("cost: 0.") and "USD" in text for text in messages)


def test_the_flags_do_not_make_another_task(shell, config, service):
    config(execution={"concurrency": 1})
    prompts(shell.workspace / "in.jsonl", 20)
    service.control(latency_ms=500)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    shell.run("-pause", "A")
    first = shell.status("A")["log"]
    shell.run("-resume", "A", "-log-dir", "moved", "-log-level", "debug")
    moved = shell.status("A")["log"]
    assert moved.startswith(str(shell.workspace / "moved"))
    wait_for(lambda: f"the log goes on in {moved}" in Path(first).read_text(), "the last line of the first")
    kill(shell.daemon())
    service.control(latency_ms=0)
    submit(shell, "-log-dir", "moved", "-log-level", "debug")
    Outputs(shell.workspace, "A").check_identity(20)
    assert shell.status("A")["log"] == moved
    wait_for(lambda: "state merging -> completed" in Path(moved).read_text(), "the last lines")
    printed = shell.run("-logs", "A").stdout
    assert printed == Path(moved).read_text()
    assert " DEBUG " in printed
