"""Peak memory of the daemon and its workers while a large task goes through upstream batches.

    python benchmarks/batch_memory.py [--lines 1000000] [--chunk LINES] [--json]

Two tasks, one with a tenth of the lines, each in a workspace of its own and with chunks of the same size: a
hundredth of the larger task, so that both have more of them than are worked on at a time. Memory that does
not grow with a task gives a ratio near 1. The test service runs beside it with its latency off.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from batch_inferd.testing.batch_ledger import read_batches
from batch_inferd.testing.process import start_service

CHUNKS = 100  # of the larger task; 10,000 lines each with a million
PADDING = "x" * 200


def memory(process: psutil.Process) -> int:
    """Bytes that would be free without this process: PSS where the kernel tells, else RSS."""
    try:
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return int(process.memory_info().rss)


class Sampler(threading.Thread):
    """The peak of the daemon and of all workers of a workspace, each, and of their sum; in bytes."""

    def __init__(self, workspace: Path) -> None:
        super().__init__(daemon=True)
        self.peaks = {"daemon": 0, "workers": 0, "sum": 0}
        self.done = threading.Event()
        self._workspace = workspace

    def run(self) -> None:
        while not self.done.wait(0.05):
            found = {"daemon": 0, "workers": 0}
            for name, process in self._processes():
                try:
                    found[name] += memory(process)
                except psutil.Error:
                    continue
            found["sum"] = sum(found.values())
            self.peaks = {name: max(peak, found[name]) for name, peak in self.peaks.items()}

    def _processes(self) -> list[tuple[str, psutil.Process]]:
        beacons = [("daemon", self._workspace / ".daemon.json")]
        beacons += [("workers", path) for path in (self._workspace / ".workers").glob("*.json")]
        found = []
        for name, path in beacons:
            try:
                found.append((name, psutil.Process(int(json.loads(path.read_text())["pid"]))))
            except (OSError, ValueError, psutil.NoSuchProcess):
                continue
        return found


def write_input(path: Path, lines: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for n in range(lines):
            record = {"messages": [{"role": "user", "content": f"question {n} {PADDING}"}]}
            file.write(json.dumps(record) + "\n")


def one_task(folder: Path, lines: int, chunk: int) -> dict[str, Any]:
    work = folder / "w"
    work.mkdir(parents=True)
    env = os.environ | {"BATCH_INFER_STATE_DIR": f"{folder}/state"}
    with start_service(folder / "service") as service:
        config = {
            "model": {"domain": service.base_url, "name": "test-model", "password": "x", "max_tokens": 64},
            "backend": "batch",
            "batch": {"poll": {"first": "1s", "max": "1s"}},
            "lines_per_chunk": chunk,
        }
        (work / "config.yaml").write_text(json.dumps(config))
        (work / "config.yaml").chmod(0o600)
        write_input(work / "in.jsonl", lines)
        sampler = Sampler(work)
        sampler.start()
        start = time.perf_counter()
        command = [sys.executable, "-m", "batch_infer"]
        submit = [*command, "-pipeline", "in.jsonl", "-task-id", "A", "-wait"]
        subprocess.run(submit, cwd=work, env=env, check=True, capture_output=True)
        seconds = time.perf_counter() - start
        sampler.done.set()
        sampler.join()
        subprocess.run([*command, "-daemon", "stop"], cwd=work, env=env, check=False, capture_output=True)
        batches = len(read_batches(service.state_dir))
    counts = json.loads((work / "merged/A/report.json").read_text())["counts"]
    assert counts["output"] == counts["input"] == lines, counts
    peaks = {f"peak_{name}_mb": round(peak / 1e6, 1) for name, peak in sampler.peaks.items()}
    return {"lines": lines, "batches": batches, "lines_per_s": round(lines / seconds), **peaks}


def measure(lines: int, chunk: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        tenth = one_task(Path(folder) / "tenth", lines // 10, chunk)
    with tempfile.TemporaryDirectory() as folder:
        whole = one_task(Path(folder) / "whole", lines, chunk)
    return {
        "lines": lines,
        "lines_per_chunk": chunk,
        "lines_per_s": whole["lines_per_s"],
        "ratio": round(whole["peak_sum_mb"] / tenth["peak_sum_mb"], 3),
        "tasks": [tenth, whole],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--chunk", type=int, help="lines_per_chunk; a hundredth of the lines when absent")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.lines, options.chunk or max(1, options.lines // CHUNKS))
    if options.json:
        print(json.dumps(found))
        return
    for task in found["tasks"]:
        print(
            f"{task['lines']} lines in {task['batches']} batches: {task['lines_per_s']}/s, peak memory "
            f"{task['peak_sum_mb']} MB (daemon {task['peak_daemon_mb']}, workers {task['peak_workers_mb']})"
        )
    print(f"ratio of the peaks: {found['ratio']}")


if __name__ == "__main__":
    main()
