"""How quick are the commands, and how quick is the daemon while a task runs at full speed?

    python benchmarks/latency.py [--runs 15] [--records 100000] [--short] [--json]

Each command against a running daemon is a ratio to `python -c "import click"`, run in turn with it; medians.
For the daemon's own answer time, one open connection asks for the status of a running task every few
milliseconds, from its first answered record to its last.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from kit import endpoint, records, task
from kit.places import scratch

from batch_infer.connection import Connection
from batch_infer.protocol import beacon, rpc

if TYPE_CHECKING:
    from pathlib import Path

EVERY_S = 0.005
COMMANDS = {
    "-version": ("-version",),
    "-help": ("-help",),
    "-list": ("-list",),
    "-status ID": ("-status", task.TASK_ID),
    "-logs ID": ("-logs", task.TASK_ID),
    "-monitor ID -once": ("-monitor", task.TASK_ID, "-once"),
    "-cancel ID (ended)": ("-cancel", task.TASK_ID),
}


def commands(folder: Path, served: endpoint.Endpoint, runs: int) -> dict[str, Any]:
    """Seconds of each command, and of the reference."""
    job = task.Job(served.base_url(), 300, lines_per_chunk=100)
    with task.place(folder) as work:
        work.configure(job.config())
        records.write_input(work.root / "in.jsonl", job.records, job.body_bytes)
        work.submit(job.time_limit())
        reference: list[float] = []
        found: dict[str, list[float]] = {name: [] for name in COMMANDS}
        for _ in range(runs):
            reference.append(_timed([sys.executable, "-c", "import click"], work))
            for name, arguments in COMMANDS.items():
                found[name].append(_timed([*task.COMMAND, *arguments], work))
    click = statistics.median(reference)
    medians = {name: statistics.median(times) for name, times in found.items()}
    return {
        "import_click_s": round(click, 4),
        "commands": {
            name: {"s": round(seconds, 4), "ratio": round(seconds / click, 2)}
            for name, seconds in medians.items()
        },
    }


def _timed(argv: list[str], work: task.Place) -> float:
    start = time.perf_counter()
    # What a command answers about an ended task may be an exit code above 0; that is its answer all the same.
    subprocess.run(argv, cwd=work.root, env=work.env, check=False, capture_output=True, timeout=60)
    return time.perf_counter() - start


def under_load(folder: Path, served: endpoint.Endpoint, count: int) -> dict[str, Any]:
    """Milliseconds that the daemon takes to answer `status` and `list` while a task runs."""
    job = task.Job(served.base_url(), count)
    with task.place(folder) as work:
        work.configure(job.config())
        records.write_input(work.root / "in.jsonl", job.records, job.body_bytes)
        seconds: list[float] = []
        client = threading.Thread(target=lambda: seconds.append(work.submit(job.time_limit())))
        client.start()
        asked = _ask(work, client)
        client.join()
    return {
        "records": count,
        "per_s": round(count / seconds[0], 1) if seconds else None,
        **{method: _percentiles(times) for method, times in asked.items()},
    }


def _ask(work: task.Place, client: threading.Thread) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {rpc.STATUS: [], rpc.LIST: []}
    while (reached := beacon.read(work.root / ".daemon.json")) is None:
        if not client.is_alive():
            raise RuntimeError("the daemon did not start")
        time.sleep(0.02)
    with Connection.open(reached, timeout=30) as connection:
        while client.is_alive():
            shown = {each["task_id"]: each for each in connection.call(rpc.LIST)["tasks"]}.get(task.TASK_ID)
            running = shown is not None and shown["state"] == "running" and shown["counts"]["output"] > 0
            for method, params in ((rpc.STATUS, {"task_id": task.TASK_ID}), (rpc.LIST, {})):
                if running:
                    start = time.perf_counter()
                    connection.call(method, params)
                    times[method].append(time.perf_counter() - start)
            time.sleep(EVERY_S)
    return times


def _percentiles(times: list[float]) -> dict[str, float]:
    """Of the times in seconds, milliseconds: the nearest rank, so that p99 was really seen."""
    ordered = sorted(times)
    if not ordered:
        return {"n": 0}
    found = {f"p{p}_ms": ordered[math.ceil(len(ordered) * p / 100) - 1] for p in (50, 99)}
    return {"n": len(ordered)} | {
        name: round(each * 1000, 2) for name, each in (found | {"max_ms": ordered[-1]}).items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int)
    parser.add_argument("--records", type=int)
    parser.add_argument("--short", action="store_true", help="only keeps the benchmark alive")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    runs = options.runs or (1 if options.short else 15)
    count = options.records or (3_000 if options.short else 100_000)
    with scratch("latency") as folder, endpoint.running(folder / "endpoint") as served:
        found = commands(folder / "commands", served, runs)
        found["under_load"] = under_load(folder / "load", served, count)
        found["endpoint"] = served.kind
    if options.json:
        print(json.dumps(found))
        return
    print(f'python -c "import click": {found["import_click_s"]} s')
    for name, each in found["commands"].items():
        print(f"batch_infer {name}: {each['s']} s, ratio {each['ratio']}")
    print(f"under load: {json.dumps(found['under_load'])}")


if __name__ == "__main__":
    main()
