"""How quick is `batch_infer -list` against a running daemon? A ratio to `python -c "import click"`.

    python benchmarks/list_latency.py [--runs 15] [--json]

Both commands run in turn, so that the machine's noise meets both; the medians are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 3.0


def timed(argv: list[str], cwd: str, env: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(argv, cwd=cwd, env=env, check=True, capture_output=True)
    return time.perf_counter() - start


def measure(runs: int) -> dict[str, float]:
    listing = [sys.executable, "-m", "batch_infer", "-list"]
    reference = [sys.executable, "-c", "import click"]
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"BATCH_INFER_STATE_DIR": f"{folder}/state"}
        work = Path(folder) / "w"
        work.mkdir()
        (work / "config.yaml").write_text("model: {domain: test, password: x, max_tokens: 8}\n")
        (work / "config.yaml").chmod(0o600)
        (work / "in.jsonl").write_text('{"messages":[{"role":"user","content":"hi"}]}\n')
        start = [sys.executable, "-m", "batch_infer", "-pipeline", "in.jsonl", "-task-id", "A", "-wait"]
        subprocess.run(start, cwd=work, env=env, check=True, capture_output=True)
        try:
            pairs = [(timed(listing, str(work), env), timed(reference, str(work), env)) for _ in range(runs)]
        finally:
            subprocess.run(
                [*listing[:-1], "-daemon", "stop"], cwd=work, env=env, check=False, capture_output=True
            )
    ours = statistics.median(pair[0] for pair in pairs)
    theirs = statistics.median(pair[1] for pair in pairs)
    return {"list_s": round(ours, 4), "import_click_s": round(theirs, 4), "ratio": round(ours / theirs, 2)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.runs)
    if options.json:
        print(json.dumps(found))
    else:
        print(f"batch_infer -list: {found['list_s']} s, import click: {found['import_click_s']} s, "
              f"ratio {found['ratio']} (limit {LIMIT})")  # fmt: skip
    return 0 if found["ratio"] <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
