"""The benchmarks run, and the one with a promised ratio keeps it. No other time is asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
BENCHMARKS = PROJECT / "benchmarks"


def run(name, *options, timeout=100):
    command = [sys.executable, str(BENCHMARKS / name), *options, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
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


@pytest.mark.timeout(300)  # two tasks, the larger one with 50,000 lines
def test_memory_of_batches_stays_flat():
    found = run("batch_memory.py", "--lines", "50000", timeout=280)
    small, large = found["tasks"]
    assert (small["lines"], large["lines"]) == (5_000, 50_000)
    assert (small["batches"], large["batches"]) == (10, 100)
    # A million lines keep within 10 % (docs/performance.md); in small tasks a few megabytes are noise.
    assert found["ratio"] < 1.25, found
    assert large["lines_per_s"] > 100, found


@pytest.mark.timeout(300)  # some fifteen small tasks
def test_a_short_run_of_all_gives_the_page(tmp_path):
    # What has a test of its own above is left out, and so are the peers, which would be installed.
    names = ["throughput", "memory", "latency", "splitting", "merging", "first_request", "http_clients"]
    out = tmp_path / "results.json"
    command = [sys.executable, str(BENCHMARKS / "run.py"), "--short", "--no-peers", "--out", str(out)]
    command += ["--only", *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(out.read_text())
    assert set(document["results"]) == set(names), done.stderr
    assert document["failed"] == {}

    found = document["results"]
    assert found["throughput"]["endpoint"].split()[0] in {"nginx", "aiohttp"}
    for each in found["throughput"]["ours"].values():
        assert each["per_s"] > 0
        assert each["workers"] == (2 if each["mode"] == "multiprocessing" else 1), each
        assert each["worker_cpu_s"] > 0
        assert each["pss_mb"]["sum"] > 20
    assert {each["what"] for each in found["memory"]["large"]} == {"requests of 5 MB", "answers of 5 MB"}
    assert found["latency"]["under_load"]["status"]["n"] > 0
    # Each promise is met or not met, which a short run cannot say; only the peers were left out.
    page = done.stdout
    assert page.count("| not measured |") == 1, page
    assert "This is a short run" in page


def test_a_server_of_our_own_stands_in_for_nginx(tmp_path):
    script = """
import pathlib, sys, urllib.request
from kit import endpoint
endpoint.shutil.which = lambda *_, **__: None
with endpoint.running(pathlib.Path(sys.argv[1])) as served:
    for size in (512, 5 * 2**20):
        for read in (False, True):
            url = served.base_url(size, read=read) + "/chat/completions"
            with urllib.request.urlopen(url, data=b"x" * 3_000_000) as reply:
                assert reply.status == 200 and len(reply.read()) == size
    print(served.kind)
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=BENCHMARKS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("aiohttp (stands in for nginx"), done.stdout


def test_the_page_is_made_of_the_committed_results(tmp_path):
    """docs/performance.md says what docs/performance.json says; the picture needs no display."""
    page = (PROJECT / "docs" / "performance.md").read_text(encoding="utf-8")
    results = PROJECT / "docs" / "performance.json"
    picture = tmp_path / "p.svg"
    command = [sys.executable, str(BENCHMARKS / "table.py"), "--results", str(results)]
    command += ["--picture", str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in page
    assert "<svg" in picture.read_text(encoding="utf-8")
    assert not json.loads(results.read_text(encoding="utf-8"))["short"]
