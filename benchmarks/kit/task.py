"""One task from end to end: a workspace, an input, submit and wait, the report, and what it cost."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kit import cores, records
from kit.records import KB
from kit.sampling import Sampler, of_workspace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMAND = [sys.executable, "-m", "batch_infer"]
TASK_ID = "A"
_COMMAND_S = 60.0
_SLOWEST = (500, 5e6)  # records and bytes a second; a task that is slower than both has got stuck


@dataclass(frozen=True)
class Job:
    """What to run. `one_core` puts the worker on the last core, and everything else on the others."""

    base_url: str
    records: int
    body_bytes: int = KB
    answer_bytes: int = 512
    mode: str = "asyncio"
    processes: int = 1
    concurrency: int = 64
    lines_per_chunk: int = 1000
    one_core: bool = False
    limits: dict[str, object] = field(default_factory=dict)

    def time_limit(self) -> float:
        """Seconds that leave room for a slow machine, but not for a hang."""
        size = self.records * (self.body_bytes + self.answer_bytes)
        return _COMMAND_S + self.records / _SLOWEST[0] + size / _SLOWEST[1]

    def config(self) -> dict[str, Any]:
        """The workspace's config; JSON is YAML."""
        return {
            "model": {
                "domain": self.base_url,
                "name": records.MODEL,
                "password": "x",
                "max_tokens": records.MAX_TOKENS,
            },
            "backend": "online",
            "lines_per_chunk": self.lines_per_chunk,
            "execution": {
                "mode": self.mode,
                "processes": self.processes,
                "concurrency": self.concurrency,
            },
            "limits": {"max_concurrency": max(self.concurrency, 64), **self.limits},
        }


class Place:
    """A workspace with a daemon of its own, in `folder`; `env` is for whoever speaks with it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "w"
        self.root.mkdir(parents=True)
        self.env = os.environ | {"BATCH_INFER_STATE_DIR": str(folder / "state"), "BATCH_INFER_LANG": "en"}

    def configure(self, config: dict[str, Any]) -> None:
        path = self.root / "config.yaml"
        path.write_text(json.dumps(config))
        path.chmod(0o600)

    def command(
        self, *arguments: str, timeout: float = _COMMAND_S, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Runs batch_infer in the workspace; what it says comes with the error when it fails."""
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.root,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"batch_infer {' '.join(arguments)}: {done.returncode}\n{done.stderr}")
        return done

    def submit(self, limit: float) -> float:
        """Runs in.jsonl to its end, within `limit` seconds; the seconds that it took."""
        start = time.perf_counter()
        try:
            self.command("-pipeline", "in.jsonl", "-task-id", TASK_ID, "-wait", timeout=limit)
        except subprocess.TimeoutExpired as error:
            state = self.command("-status", TASK_ID, check=False).stdout
            raise RuntimeError(f"the task did not end within {limit:.0f} s\n{state}") from error
        return time.perf_counter() - start

    def stop(self) -> None:
        """Stops the daemon, by force when it does not obey."""
        try:
            self.command("-daemon", "stop", check=False)
        except subprocess.TimeoutExpired:
            for _, process in of_workspace(self.root)():
                process.kill()

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / "merged" / TASK_ID / "report.json").read_text())
        return found


@contextlib.contextmanager
def place(folder: Path) -> Iterator[Place]:
    """A workspace whose daemon is stopped, and whose files are removed, at the end."""
    made = Place(folder)
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


def run(job: Job, folder: Path, endpoint_pid: int) -> dict[str, Any]:
    """Runs the job in a new workspace in `folder`.

    The time is that of `batch_infer -pipeline … -wait`: the start of the client and the daemon, cutting,
    sending, the journals, merging and publishing are all in it.
    """
    worker_cores = cores.measured() if job.one_core else set[int]()
    cores.place(endpoint_pid, cores.others() if job.one_core else set(cores.allowed()))
    with place(folder) as work:
        work.configure(job.config())
        records.write_input(work.root / "in.jsonl", job.records, job.body_bytes)
        sampler = Sampler(of_workspace(work.root), worker_cores)
        try:
            with cores.children_on(cores.others() if job.one_core else set()):
                sampler.start()
                seconds = work.submit(job.time_limit())
        finally:
            sampler.stop()
        counts = work.report()["counts"]
    if counts["output"] != job.records:
        raise RuntimeError(f"not all of {job.records} records were answered: {counts}")
    return summary(job, seconds, sampler)


def summary(job: Job, seconds: float, sampler: Sampler) -> dict[str, Any]:
    """The figures of a run."""
    worker_cpu = sampler.cpu("worker")
    return {
        "mode": job.mode,
        "processes": job.processes,
        "concurrency": job.concurrency,
        "records": job.records,
        "body_bytes": job.body_bytes,
        "one_core": job.one_core and bool(cores.measured()),
        "seconds": round(seconds, 2),
        "per_s": round(job.records / seconds, 1),
        "workers": sampler.count("worker"),
        "worker_cpu_s": round(worker_cpu, 2),
        "daemon_cpu_s": round(sampler.cpu("daemon"), 2),
        "records_per_worker_cpu_s": round(job.records / worker_cpu) if worker_cpu else None,
        "pss_mb": {name: round(size / 1e6, 1) for name, size in sampler.peaks.items()},
    }
