"""The benchmarks run, and the one with a promised ratio keeps it."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def run(name, *options):
    command = [sys.executable, str(BENCHMARKS / name), *options, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def test_list_is_quick():
    found = run("list_latency.py", "--runs", "11")
    assert found["ratio"] <= 3.0, found


def test_end_to_end_still_runs():
    found = run("end_to_end.py", "--records", "300")
    assert found["records"] == 300
    assert found["ratio"] > 0
    assert found["peak_rss_mb"] > 10
