"""Memory (PSS) of the daemon and one worker, by records, by calls at a time, and with bodies of 5 MB.

    python benchmarks/memory.py [--records 10000 100000 1000000] [--short] [--json]

Each figure is the peak of a task from submit to published outputs, in a workspace of its own, sampled every
0.1 s. Bodies of 5 MB are held to `limits.bytes_in_flight`: what they take beyond a task of small bodies is
shown as a multiple of that limit, for two limits.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from kit import endpoint, records, task
from kit.places import scratch

if TYPE_CHECKING:
    from pathlib import Path

RECORDS = (10_000, 100_000, 1_000_000)
CONCURRENCY = (64, 1024)
IN_FLIGHT = (16 * records.MB, 64 * records.MB)
LARGE = 5 * records.MB
LARGE_RECORDS = 200


def measure(counts: tuple[int, ...], large_records: int, folder: Path) -> dict[str, Any]:
    with endpoint.running(folder / "endpoint") as served:

        def run(job: task.Job) -> dict[str, Any]:
            print(f"{job.records} records, {job.concurrency} calls at a time …", file=sys.stderr, flush=True)
            return task.run(job, folder / "task", served.pid)

        small = [
            run(task.Job(served.base_url(), count, concurrency=concurrency))
            for concurrency in CONCURRENCY
            for count in counts
        ]
        large = []
        for in_flight in IN_FLIGHT:
            for name, job in large_jobs(served, large_records, in_flight).items():
                large.append({"what": name, "bytes_in_flight": in_flight, **run(job)})
        kind = served.kind
    base = min(each["pss_mb"]["sum"] for each in small if each["concurrency"] == CONCURRENCY[0])
    for each in large:
        beyond = (each["pss_mb"]["sum"] - base) * 1e6
        each["beyond_small_to_limit"] = round(beyond / each["bytes_in_flight"], 2)
    return {"endpoint": kind, "small": small, "large": large, "flat": flat(small)}


def large_jobs(served: endpoint.Endpoint, count: int, in_flight: int) -> dict[str, task.Job]:
    """Large requests, which the endpoint reads before it answers; and large answers."""
    limits: dict[str, object] = {"bytes_in_flight": in_flight}
    return {
        "requests of 5 MB": task.Job(
            served.base_url(read=True), count, body_bytes=LARGE, lines_per_chunk=50, limits=limits
        ),
        "answers of 5 MB": task.Job(
            served.base_url(LARGE), count, answer_bytes=LARGE, lines_per_chunk=50, limits=limits
        ),
    }


def flat(small: list[dict[str, Any]]) -> dict[str, float]:
    """By concurrency: the highest peak to the one of the fewest records."""
    found = {}
    for concurrency in CONCURRENCY:
        peaks = [each["pss_mb"]["sum"] for each in small if each["concurrency"] == concurrency]
        found[str(concurrency)] = round(max(peaks) / peaks[0], 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, nargs="+")
    parser.add_argument("--short", action="store_true", help="only keeps the benchmark alive")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    counts = tuple(options.records or ((500, 1_000) if options.short else RECORDS))
    with scratch("memory") as folder:
        found = measure(counts, 4 if options.short else LARGE_RECORDS, folder)
    if options.json:
        print(json.dumps(found))
        return
    for each in found["small"]:
        pss = each["pss_mb"]
        print(
            f"{each['records']} records, {each['concurrency']} calls at a time: {pss['sum']} MB "
            f"(daemon {pss['daemon']}, worker {pss['worker']}); {each['per_s']}/s"
        )
    for each in found["large"]:
        print(
            f"{each['records']} {each['what']}, {each['bytes_in_flight'] / records.MB:.0f} MiB in flight: "
            f"{each['pss_mb']['sum']} MB, {each['beyond_small_to_limit']} of the limit beyond small bodies"
        )
    print(json.dumps(found["flat"]))


if __name__ == "__main__":
    main()
