"""Records a second from submit to published outputs, against wrk and against what people use today.

    python benchmarks/throughput.py [--records 200000] [--short] [--no-peers] [--json]

All of it in one run against one static endpoint: wrk as the ceiling (median of 5); batch_infer with its
journals and its merge, in each mode (median of 3 where a promise is made of it, the modes in turn); curator,
the openai SDK, plain loops. Request bodies of 1 KB, answers of 0.5 KB. What is measured on one core has the
last core to itself (`kit/cores.py`); what is not so marked ran on any core.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from kit import endpoint, peers, records, task, wrk
from kit.places import scratch

if TYPE_CHECKING:
    from pathlib import Path

CONCURRENCY = 64
HIGH = 1024
REPEATS = 3
REPEATED = ("asyncio, one core", "asyncio", "multiprocessing 2")  # what promises are made of


def modes(base_url: str, count: int) -> dict[str, task.Job]:
    """What is run of ours. Those with `one core` are held against wrk and the peers."""
    return {
        "asyncio, one core": task.Job(base_url, count, one_core=True),
        "asyncio, one core, 1,024 calls": task.Job(base_url, count, one_core=True, concurrency=HIGH),
        "asyncio": task.Job(base_url, count),
        "threading 2": task.Job(base_url, count, mode="threading", processes=2),
        "multiprocessing 2": task.Job(base_url, count, mode="multiprocessing", processes=2),
    }


def measure(count: int, folder: Path, *, short: bool, with_peers: bool) -> dict[str, Any]:
    with endpoint.running(folder / "endpoint") as served:
        found: dict[str, Any] = {
            "endpoint": served.kind,
            "body_bytes": records.KB,
            "answer_bytes": 512,
            "records": count,
        }
        runs, seconds = (1, 1) if short else (5, 2)
        found["wrk"] = {
            str(connections): wrk.ceiling(
                served, folder, body_bytes=records.KB, connections=connections, runs=runs, seconds=seconds
            )
            for connections in ((CONCURRENCY,) if short else (CONCURRENCY, HIGH))
        }
        tried: dict[str, list[dict[str, Any]]] = {}
        for turn in range(1 if short else REPEATS):
            for name, job in modes(served.base_url(), count).items():
                if turn and name not in REPEATED:
                    continue
                say(f"{name} …")
                tried.setdefault(name, []).append(task.run(job, folder / "task", served.pid))
        found["ours"] = {name: middle(runs) for name, runs in tried.items()}
        found["peers"] = {}
        for peer in peers.PEERS if with_peers else ():
            say(f"{peer.name} …")
            found["peers"][peer.name] = peers.measure(
                peer,
                served,
                records=1_000 if short else 10_000,
                seconds=1 if short else 15,
                concurrency=CONCURRENCY,
                body_bytes=records.KB,
            )
    return found | {"ratios": ratios(found)}


def middle(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run with the median speed, with the speeds of all of them."""
    ordered = sorted(runs, key=lambda run: run["per_s"])
    return ordered[len(ordered) // 2] | {"runs": [run["per_s"] for run in runs]}


def ratios(found: dict[str, Any]) -> dict[str, float]:
    """Ours on one core to everything else; and what a second process costs."""
    ours = found["ours"]["asyncio, one core"]["per_s"]
    others = {f"to {name}": peer.get("per_s") for name, peer in found["peers"].items()}
    others["to wrk"] = found["wrk"][str(CONCURRENCY)].get("per_s")
    one = found["ours"]["asyncio"]["records_per_worker_cpu_s"]
    two = {
        name: found["ours"][name]["records_per_worker_cpu_s"] for name in ("multiprocessing 2", "threading 2")
    }
    return {name: round(ours / per_s, 3) for name, per_s in others.items() if per_s} | {
        f"per CPU second, {name} to asyncio": round(figure / one, 3)
        for name, figure in two.items()
        if figure and one
    }


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, help="200,000 when absent; 1,000 with --short")
    parser.add_argument("--short", action="store_true", help="only keeps the benchmark alive")
    parser.add_argument("--no-peers", action="store_true", help="leave out what has to be installed")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    count = options.records or (1_000 if options.short else 200_000)
    with scratch("throughput") as folder:
        found = measure(count, folder, short=options.short, with_peers=not options.no_peers)
    if options.json:
        print(json.dumps(found))
        return
    for name, figure in found["wrk"].items():
        print(f"wrk, {name} connections: {figure.get('per_s', figure)}/s")
    for name, run in found["ours"].items():
        print(
            f"{name}: {run['per_s']}/s, {run['records_per_worker_cpu_s']} records a worker CPU second, "
            f"{run['pss_mb']['sum']} MB"
        )
    for name, peer in found["peers"].items():
        said = f"{peer['per_s']}/s, {peer['pss_mb']} MB" if "per_s" in peer else peer["not_measured"]
        print(f"{name}: {said}")
    print(json.dumps(found["ratios"], indent=2))


if __name__ == "__main__":
    main()
