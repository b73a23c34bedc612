"""Records a second from submit to published outputs, against wrk and against what people use today.

    python benchmarks/throughput.py [--records 300000] [--short] [--no-peers] [--json]

All of it in one run against one static endpoint: wrk as the ceiling; batch_infer with its journals and its
merge, in each mode; curator, the openai SDK, plain loops. What a promise is made of (ours on one core, wrk,
curator) is measured in three turns, side by side, and compared turn by turn. Request bodies of 1 KB, answers
of 0.5 KB. What is measured on one core has the last core to itself (`kit/cores.py`); what is not so marked
ran on any core.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from typing import TYPE_CHECKING, Any

from kit import endpoint, peers, records, task, wrk
from kit.places import scratch

if TYPE_CHECKING:
    from pathlib import Path

CONCURRENCY = 64
HIGH = 1024
REPEATS = 3
ONE_CORE = "asyncio, one core"
RIVAL = peers.PEERS[0]  # a promise is made of it, so it is measured in each turn
REPEATED = (ONE_CORE, "asyncio", "multiprocessing 2")  # what promises are made of


def modes(base_url: str, count: int) -> dict[str, task.Job]:
    """What is run of ours. Those with `one core` are held against wrk and the peers."""
    return {
        ONE_CORE: task.Job(base_url, count, one_core=True),
        "asyncio, one core, 1,024 calls": task.Job(base_url, count, one_core=True, concurrency=HIGH),
        "asyncio": task.Job(base_url, count),
        "threading 2": task.Job(base_url, count, mode="threading", processes=2),
        "multiprocessing 2": task.Job(base_url, count, mode="multiprocessing", processes=2),
    }


def measure(count: int, folder: Path, *, short: bool, with_peers: bool) -> dict[str, Any]:
    with endpoint.running(folder / "endpoint") as served:
        seconds = 1 if short else 2

        def wrk_of(connections: int, runs: int) -> dict[str, Any]:
            return wrk.ceiling(
                served, folder, body_bytes=records.KB, connections=connections, runs=runs, seconds=seconds
            )

        def peer_of(peer: peers.Peer) -> dict[str, Any]:
            say(f"{peer.name} …")
            return peers.measure(
                peer,
                served,
                records=1_000 if short else 10_000,
                seconds=1 if short else 15,
                concurrency=CONCURRENCY,
                body_bytes=records.KB,
            )

        ceilings: list[dict[str, Any]] = []
        tried: dict[str, list[dict[str, Any]]] = {}
        tried_peers: dict[str, list[dict[str, Any]]] = {}
        for turn in range(1 if short else REPEATS):
            for name, job in modes(served.base_url(), count).items():
                if turn and name not in REPEATED:
                    continue
                if name == ONE_CORE:
                    ceilings.append(wrk_of(CONCURRENCY, 1 if short else 2))
                say(f"{name} …")
                tried.setdefault(name, []).append(task.run(job, folder / "task", served.pid))
                if name == ONE_CORE and with_peers:
                    tried_peers.setdefault(RIVAL.name, []).append(peer_of(RIVAL))
        for peer in peers.PEERS if with_peers else ():
            if peer is not RIVAL:
                tried_peers[peer.name] = [peer_of(peer)]
        found: dict[str, Any] = {
            "endpoint": served.kind,
            "body_bytes": records.KB,
            "answer_bytes": 512,
            "records": count,
            "wrk": {str(CONCURRENCY): together(ceilings)},
            "ours": {name: middle(runs) for name, runs in tried.items()},
            "peers": {name: middle(runs) for name, runs in tried_peers.items()},
        }
        if not short:
            found["wrk"][str(HIGH)] = wrk_of(HIGH, 5)
    return found | {"ratios": ratios(found)}


def together(ceilings: list[dict[str, Any]]) -> dict[str, Any]:
    """What wrk reached in all turns: `turns` has the median of each, `per_s` that of all."""
    if any("per_s" not in each for each in ceilings):
        return ceilings[0]
    rates = [rate for each in ceilings for rate in each["runs"]]
    return ceilings[0] | {
        "per_s": round(statistics.median(rates)),
        "runs": rates,
        "turns": [each["per_s"] for each in ceilings],
    }


def middle(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run with the median speed, with the speeds of all of them in the order of the turns."""
    if any("per_s" not in run for run in runs):
        return next(run for run in runs if "per_s" not in run)
    ordered = sorted(runs, key=lambda run: run["per_s"])
    return ordered[len(ordered) // 2] | {"runs": [run["per_s"] for run in runs]}


def ratios(found: dict[str, Any]) -> dict[str, float]:
    """Ours on one core to everything else, and what a second process costs.

    What was measured in each turn is compared turn by turn, and the median counts: the machine is not as fast
    in one minute as in the next.
    """
    ours = found["ours"][ONE_CORE]["runs"]
    by_turn = {"wrk": found["wrk"][str(CONCURRENCY)].get("turns")} | {
        name: peer.get("runs") for name, peer in found["peers"].items()
    }
    compared = {
        f"to {name}": statistics.median(mine / other for mine, other in paired(ours, turns))
        for name, turns in by_turn.items()
        if turns
    }
    one = found["ours"]["asyncio"]["records_per_worker_cpu_s"]
    two = {
        name: found["ours"][name]["records_per_worker_cpu_s"] for name in ("multiprocessing 2", "threading 2")
    }
    return {name: round(ratio, 3) for name, ratio in compared.items()} | {
        f"per CPU second, {name} to asyncio": round(figure / one, 3)
        for name, figure in two.items()
        if figure and one
    }


def paired(ours: list[float], others: list[float]) -> list[tuple[float, float]]:
    """Turn by turn; what was measured once is held against all turns."""
    return [(mine, others[min(turn, len(others) - 1)]) for turn, mine in enumerate(ours)]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, help="300,000 when absent; 1,000 with --short")
    parser.add_argument("--short", action="store_true", help="only keeps the benchmark alive")
    parser.add_argument("--no-peers", action="store_true", help="leave out what has to be installed")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    count = options.records or (1_000 if options.short else 300_000)
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
