"""All benchmarks, one after the other, into one file of results.

    python benchmarks/run.py [--short] [--only NAME …] [--no-peers] [--out FILE]

Writes JSON to `.bench/results.json` after each benchmark, and prints the table at the end. A benchmark that
fails is named there; the others go on, and the exit code is 1. No time is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from kit import machine, tools
from kit.places import BENCHMARKS, PROJECT, RESULTS, bench
from kit.table import markdown

# In this order: what needs a quiet machine most comes first. With what a short run gives each of them.
ALL = {
    "throughput": ["--short"],
    "memory": ["--short"],
    "latency": ["--short"],
    "splitting": ["--short"],
    "merging": ["--short"],
    "first_request": ["--short"],
    "http_clients": ["--short"],
    "list_latency": ["--runs", "1"],
    "end_to_end": ["--records", "300"],
    "batch_memory": ["--lines", "2000"],
}
LIMIT_S = 1200


def one(name: str, options: list[str]) -> tuple[dict[str, Any] | None, str]:
    """The JSON of a benchmark, or why there is none. Its exit code may be a verdict: the output counts."""
    argv = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--json", *options]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
    try:
        said, _ = process.communicate(timeout=LIMIT_S)
    except BaseException as error:
        process.terminate()  # then it stops what it started
        process.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        return None, f"not done after {LIMIT_S} s"
    try:
        found = json.loads(said.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return None, f"it ended with exit code {process.returncode} and no result"
    return found, ""


def run(names: list[str], out: Path, *, short: bool, with_peers: bool) -> dict[str, Any]:
    start = time.monotonic()
    document: dict[str, Any] = {
        "short": short,
        "command": "make bench" if names == list(ALL) and not short else "python benchmarks/run.py",
        "minutes": 0.0,
        "machine": machine.facts(),
        "results": {},
        "failed": {},
        "seconds": {},
    }
    for name in names:
        if not (BENCHMARKS / f"{name}.py").exists():
            continue
        print(f"== {name}", file=sys.stderr, flush=True)
        began = time.monotonic()
        options = ALL[name] if short else []
        if name == "throughput" and not with_peers:
            options = [*options, "--no-peers"]
        found, why = one(name, options)
        if found is None:
            document["failed"][name] = why
            print(f"{name}: {why}", file=sys.stderr, flush=True)
        else:
            document["results"][name] = found
        document["seconds"][name] = round(time.monotonic() - began, 1)
        document["minutes"] = round((time.monotonic() - start) / 60, 1)
        out.write_text(json.dumps(document, indent=2) + "\n")
    return document


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="small inputs: only keeps the benchmarks alive")
    parser.add_argument("--only", nargs="+", choices=list(ALL), metavar="NAME", help=", ".join(ALL))
    parser.add_argument("--no-peers", action="store_true", help="leave out what has to be installed")
    parser.add_argument("--out", type=Path, help="where the results go; .bench/results.json when absent")
    options = parser.parse_args()
    if not options.short:
        tools.install()
    bench()
    out = options.out or RESULTS
    os.environ["PYTHONUNBUFFERED"] = "1"
    document = run(options.only or list(ALL), out, short=options.short, with_peers=not options.no_peers)
    print(markdown(document))
    return 1 if document["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
