"""The benchmarks run, and the one with a promised ratio keeps it."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_list_is_quick():
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "list_latency.py"), "--runs", "11", "--json"],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert found["ratio"] <= 3.0, found
