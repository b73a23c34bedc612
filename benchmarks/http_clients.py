"""Calls a second of the HTTP clients, through the worker's transport and plain, against wrk in the same run.

    python benchmarks/http_clients.py [--calls 30000] [--short] [--json]

Request bodies of 1 KB, answers of 0.5 KB, from a static endpoint on the loopback. Each client runs in its own
process, on one core where the machine has two; `cpu_us` is its CPU time a call, its own threads included.
The figures are medians of RUNS, and the clients take turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from kit import cores, endpoint, wrk
from kit.places import BENCHMARKS, scratch

if TYPE_CHECKING:
    from pathlib import Path

OURS = "http1"
CLIENTS = (OURS, "plain pyreqwest", "aiohttp")
CONCURRENCY = (64, 1024)
RUNS = 3


def measure(calls: int, folder: Path, *, short: bool) -> dict[str, Any]:
    runs = 1 if short else RUNS
    found: dict[str, Any] = {"calls": calls, "clients": {}, "wrk": {}, "ratios": {}}
    with endpoint.running(folder / "endpoint") as served:
        found["endpoint"] = served.kind
        cores.place(served.pid, cores.others())
        url = f"{served.base_url()}/chat/completions"
        for concurrency in CONCURRENCY:
            key = str(concurrency)
            found["wrk"][key] = wrk.ceiling(
                served, folder, body_bytes=1024, connections=concurrency, runs=runs, seconds=1 if short else 5
            )
            said: dict[str, list[dict[str, float]]] = {client: [] for client in CLIENTS}
            for _ in range(runs):
                for client, figures in said.items():
                    figures.append(_run(client, url, calls, concurrency))
            found["clients"][key] = {client: _median(figures) for client, figures in said.items()}
            found["ratios"][key] = _ratios(found["clients"][key], found["wrk"][key].get("per_s"))
    return found


def _run(client: str, url: str, calls: int, concurrency: int) -> dict[str, float]:
    argv = [
        sys.executable,
        str(BENCHMARKS / "clients" / "drive.py"),
        client,
        url,
        str(calls),
        str(concurrency),
    ]
    with cores.children_on(cores.measured()):
        done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def _median(figures: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(run[name] for run in figures) for name in figures[0]}


def _ratios(clients: dict[str, dict[str, float]], ceiling: float | None) -> dict[str, float]:
    ours = clients[OURS]["per_s"]
    found = {f"{OURS} to {name}": ours / clients[name]["per_s"] for name in CLIENTS if name != OURS}
    if ceiling:
        found[f"{OURS} to wrk"] = ours / ceiling
    return {name: round(ratio, 3) for name, ratio in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, help="30,000 when absent; 2,000 with --short")
    parser.add_argument("--short", action="store_true", help="only keeps the benchmark alive")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with scratch("http_clients") as folder:
        found = measure(options.calls or (2_000 if options.short else 30_000), folder, short=options.short)
    if options.json:
        print(json.dumps(found))
        return
    for concurrency, clients in found["clients"].items():
        print(
            f"{concurrency} calls in flight; wrk: {found['wrk'][concurrency].get('per_s', 'not installed')}/s"
        )
        for name, run in clients.items():
            print(
                f"  {name}: {run['per_s']:.0f}/s, {run['cpu_us']} µs of CPU a call, {run['peak_mb']:.0f} MB"
            )
        print(f"  {found['ratios'][concurrency]}")


if __name__ == "__main__":
    main()
