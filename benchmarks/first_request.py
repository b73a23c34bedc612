"""From a submit to the first request that the service sees, with a large input; daemon cold, and warm.

    python benchmarks/first_request.py [--json] [--short]

The input has 100 MB of real lines, repeated to 10 GB. With --short the file has that size, but is empty
behind its first lines, which the task never leaves.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from kit import records
from kit.places import scratch
from kit.sampling import of_workspace, pss
from kit.task import Job, Place, place

if TYPE_CHECKING:
    from pathlib import Path

    import psutil

GB = 1024 * records.MB
SIZE = 10 * GB
REAL = 100 * records.MB
_WAIT_S = 60.0


class Service(ThreadingHTTPServer):
    """Answers each request, and knows when the first one of a task has come."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = records.answer(512)
        self.came = threading.Event()
        self.at = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def saw(self) -> None:
        """A request has come."""
        if not self.came.is_set():
            self.at = time.perf_counter()
            self.came.set()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Service

    def do_POST(self) -> None:
        self.server.saw()
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


def write_input(path: Path, size: int, *, real: bool) -> None:
    """`size` bytes: real lines all over, or at the beginning only."""
    records.write_input(path, REAL // records.KB // (1 if real else 20), records.KB)
    with path.open("r+b") as file:
        if not real:
            file.truncate(size)
            return
        piece = file.read()
        while file.tell() + len(piece) <= size:
            file.write(piece)


def submit(work: Place, service: Service, task_id: str) -> tuple[float, int, float]:
    """Seconds to the first request, bytes that the daemon had read by then, and its memory in MB."""
    service.came.clear()
    before = _read(work)
    start = time.perf_counter()
    work.command("-pipeline", "in.jsonl", "-task-id", task_id)
    if not service.came.wait(_WAIT_S):
        raise RuntimeError("no request has come")
    took, read, memory = service.at - start, _read(work) - before, _memory(work)
    work.command("-cancel", task_id)
    return took, read, memory


def _read(work: Place) -> int:
    return sum(process.io_counters().read_chars for _, process in _daemons(work))


def _memory(work: Place) -> float:
    return sum(pss(process) for _, process in _daemons(work)) / 1e6


def _daemons(work: Place) -> list[tuple[str, psutil.Process]]:
    return [found for found in of_workspace(work.root)() if found[0] == "daemon"]


def measure(folder: Path, runs: int, *, real: bool) -> dict[str, Any]:
    service = Service()
    threading.Thread(target=service.serve_forever, daemon=True).start()
    colds, warms = [], []
    try:
        with place(folder / "place") as work:
            # A low rate: nothing beyond the first request is of interest.
            work.configure(Job(service.url, 0, lines_per_chunk=200, concurrency=2).config())
            source = work.root / "in.jsonl"
            write_input(source, SIZE, real=real)
            size = source.stat().st_size
            for run in range(runs):
                work.stop()
                colds.append(submit(work, service, f"cold-{run}"))
                warms.append(submit(work, service, f"warm-{run}"))
    finally:
        service.shutdown()
        service.server_close()
    return {
        "input_bytes": size,
        "runs": runs,
        "cold_s": round(statistics.median(run[0] for run in colds), 3),
        "warm_s": round(statistics.median(run[0] for run in warms), 3),
        "read_mb": round(max(run[1] for run in (*colds, *warms)) / 1e6, 1),
        "daemon_pss_mb": round(max(run[2] for run in (*colds, *warms)), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--short", action="store_true", help="one run, and a file that is mostly a hole")
    options = parser.parse_args()
    with scratch("first-request") as folder:
        found = measure(folder, 1 if options.short else 5, real=not options.short)
    if options.json:
        print(json.dumps(found))
        return
    print(
        f"an input of {found['input_bytes'] / 1e9:.1f} GB: the first request after {found['cold_s']} s with "
        f"a cold daemon, {found['warm_s']} s with a warm one; {found['read_mb']} MB were read by then"
    )


if __name__ == "__main__":
    main()
