"""What the integration tests share: a workspace, the real command line, and looking at the outcome."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from batch_inferd.testing.ledger import LedgerRow
    from batch_inferd.testing.process import RunningService

BOUND_S = 60.0


class Shell:
    """A shell in a workspace: runs batch_infer as a person would."""

    def __init__(self, workspace: Path, **environ: str) -> None:
        self.workspace = workspace
        self.environ = os.environ | {"BATCH_INFER_LANG": "en", "PYTHONUNBUFFERED": "1"} | environ

    def start(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "batch_infer", *args],
            cwd=self.workspace,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def run(
        self, *args: str, code: int | None = 0, timeout: float = BOUND_S
    ) -> subprocess.CompletedProcess[str]:
        process = self.start(*args)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"{args} did not end:\n{out}\n{err}\n{self.log_tail()}") from None
        if code is not None:
            assert process.returncode == code, (
                f"{args} ended {process.returncode}:\n{out}\n{err}\n{self.log_tail()}"
            )
        return subprocess.CompletedProcess(args, process.returncode, out, err)

    def json(self, *args: str, code: int | None = 0, timeout: float = BOUND_S) -> Any:
        return json.loads(self.run(*args, "-json", code=code, timeout=timeout).stdout)

    def status(self, task_id: str) -> dict[str, Any]:
        status: dict[str, Any] = self.json("-status", task_id)
        return status

    def log_tail(self) -> str:
        logs = sorted((self.workspace / "logs").glob("*.log"))
        return "\n".join(f"--- {log.name}\n{_tail(log)}" for log in logs)

    def beacon(self) -> dict[str, Any]:
        return dict(json.loads((self.workspace / ".daemon.json").read_text()))

    def daemon(self) -> psutil.Process:
        return psutil.Process(int(self.beacon()["pid"]))

    def workers(self) -> list[psutil.Process]:
        found = []
        for path in (self.workspace / ".workers").glob("*.json"):
            try:
                found.append(psutil.Process(int(json.loads(path.read_text())["pid"])))
            except (psutil.NoSuchProcess, ValueError, FileNotFoundError):
                continue
        return found

    def config(self, name: str = "config.yaml", **changes: Any) -> Path:
        """Write a config for the service; nested keys as `model={"name": …}`."""
        config: dict[str, Any] = {
            "model": {"domain": "test", "password": "YOUR_PASSWORD", "max_tokens": 64},
            "lines_per_chunk": 20,
            "test_lines": 0,
            "backend": "online",
        }
        for key, value in changes.items():
            if isinstance(value, dict) and isinstance(config.get(key), dict):
                config[key] |= value
            else:
                config[key] = value
        path = self.workspace / name
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
        return path


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-40:])


def prompts(path: Path, count: int, tag: str = "q", **fields: Any) -> Path:
    """An input of `count` records, each with content of its own."""
    with path.open("w", encoding="utf-8") as file:
        for n in range(count):
            record = {
                "custom_id": f"{tag}-{n}",
                "messages": [{"role": "user", "content": f"{tag} {n}: 你好?"}],
            }
            file.write(json.dumps(record | fields, ensure_ascii=False) + "\n")
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Split on newline bytes only: U+2028 is content."""
    data = path.read_bytes()
    assert not data or data.endswith(b"\n"), f"{path} does not end with a newline"
    return [json.loads(line) for line in data.split(b"\n")[:-1]]


class Outputs:
    """The published files of a task."""

    def __init__(self, workspace: Path, task_id: str, round: int = 0) -> None:
        folder = workspace / "merged" / task_id
        self.output = read_lines(folder / "output.jsonl")
        self.errors = read_lines(folder / f"error_retry{round}.jsonl")
        self.missing = (folder / "missing_records.jsonl").read_bytes().split(b"\n")[:-1]
        self.report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))

    def check_identity(self, records: int) -> None:
        counts = self.report["counts"]
        assert self.report["identity"] is True, self.report["identity_problems"]
        assert counts["input"] == records
        assert counts["output"] == len(self.output)
        assert counts["error"] == len(self.errors)
        assert counts["missing"] == len(self.missing)
        assert counts["input"] == counts["output"] + counts["error"] + counts["missing"]

    @property
    def ids(self) -> list[str]:
        return [line["custom_id"] for line in self.output]


def wait_for(look: Callable[[], Any], what: str = "", bound: float = BOUND_S) -> Any:
    """Poll a condition of another process, with a bound."""
    deadline = time.monotonic() + bound
    while time.monotonic() < deadline:
        value = look()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {bound} s in vain for {what or look}")


def kill(process: psutil.Process | None) -> None:
    """kill -9, and wait until it is gone."""
    if process is None:
        return
    try:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    except psutil.NoSuchProcess:
        return


def paid_again(outputs: Iterable[dict[str, Any]], ledger: list[LedgerRow]) -> list[str]:
    """Contents that were billed after an answer to them had been recorded: must be none.

    An answer that was billed but lost with a killed process may be asked for again; so the recorded
    answer must be the newest one that was billed.
    """
    newest: dict[str, int] = {}
    by_request: dict[str, LedgerRow] = {}
    for row in ledger:
        if row.billed and row.content_digest:
            newest[row.content_digest] = max(newest.get(row.content_digest, 0), row.serial)
            by_request[row.request_id] = row
    wrong = []
    for line in outputs:
        row = by_request[line["response"]["request_id"]]
        assert row.content_digest is not None
        if newest[row.content_digest] != row.serial:
            wrong.append(line["custom_id"])
    return wrong


def service_config(service: RunningService, **model: Any) -> dict[str, Any]:
    """The `model` section for a service that was started by hand."""
    return {"domain": service.base_url, "name": "test-model", "password": "sk-test", "max_tokens": 64} | model
