"""What merge writes byte for byte, what it reports, and that it stays small and can be stopped."""

import errno
import hashlib
import json
import os
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from journal_kit import T, Task, answer, attempt, error, missing

from batch_inferd.journal.names import journal_name
from batch_inferd.lines import BOM
from batch_inferd.merge.merge import MergeStopped
from batch_inferd.merge.tally import Latencies


@pytest.fixture
def task(tmp_path):
    made = Task(tmp_path)
    yield made
    made.close()


def test_missing_lines_come_back_as_they_were(task):
    first = BOM + b'{"a":1}\r\n \t\r\n' + '{"b":"\u2028"}\n'.encode()
    second = (
        b'{"c":\r2}\n\x00\n\xff\xfe\n' + b'{"d":"' + b"x" * 5_000_000 + b'"}\n{"e":1}'
    )  # no final newline
    task.chunk(first)
    task.chunk(second)
    task.journal(1, "aa", missing(3) + missing(1))
    task.journal(
        2, "aa", b"".join(missing(n) for n in (8, 7, 4)) + error(5, raw=b"\x00") + error(6, raw=b"\xff\xfe")
    )
    result = task.merge(input_bytes=len(first + second))
    assert result.problems == []
    lines = (first + second).split(b"\n")
    assert task.staged("missing_records.jsonl") == b"".join(lines[n - 1] + b"\n" for n in (1, 3, 4, 7, 8))
    raws = [json.loads(line)["error"]["raw"] for line in task.staged("error_retry0.jsonl").splitlines()]
    assert raws == ["\x00", "\ufffd\ufffd"]
    assert result.counts.blank == 1
    assert result.input["sha256"] == hashlib.sha256(first + second).hexdigest()


def test_answers_travel_raw(task):
    bodies = [
        b'{\r\n  "a": 1.0,\n  "b": "\\u2028 \xe2\x80\xa8"\n}',
        b'"' + b"y" * 5_000_000 + b'"',
        b'"\\ud83d"',
        b"[]",
    ]
    task.chunk(b"{}\n" * 4)
    task.journal(1, "aa", b"".join(answer(n, body=body) for n, body in enumerate(bodies, 1)))
    assert task.merge().identity
    lines = task.staged("output.jsonl").split(b"\n")
    assert lines.pop() == b""
    assert [json.loads(line)["response"]["body"] for line in lines] == [json.loads(body) for body in bodies]
    assert bodies[0].replace(b"\r", b" ").replace(b"\n", b" ") in lines[0]


def test_the_report(task):
    task.chunk(b"{}\n\n{}\n{}\n")
    task.journal(
        1,
        "aa",
        attempt(1) + attempt(1, 2, charged=False, failure="rate_limit") + answer(1, attempt=3, ms=2000)
        + answer(3, ms=10, tokens_out=None, path="batch") + error(4, failure="too_large"),
    )  # fmt: skip
    task.chunk(b"{}\n")
    task.journal(2, "aa", answer(5, ms=30))
    result = task.merge(header={"left_out": 12, "skipped": 5})
    raw = task.staged("report.json")
    report = json.loads(raw)
    assert list(report)[:7] == [
        "schema", "task_id", "uuid", "state", "identity", "identity_problems", "identity_problems_count",
    ]  # fmt: skip
    digests = report.pop("digests")
    assert {name: digests[name] for name in result.files if name != "report.json"} == {
        name: facts for name, facts in result.files.items() if name != "report.json"
    }
    for name, facts in result.files.items():
        data = task.staged(name)
        assert facts == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert digests["input"] == result.input
    assert report == {
        "schema": 1,
        "task_id": "t",
        "uuid": "uuid",
        "state": "completed",
        "identity": True,
        "identity_problems": [],
        "identity_problems_count": 0,
        "counts": {"input": 4, "output": 3, "error": 1, "missing": 0, "pending": 0, "blank": 1},
        "left_out": 12,
        "skipped": 5,
        "unread": None,
        "round": 0,
        "generation": 1,
        "tokens": {"input": 9, "cached": 0, "output": 8, "unknown": 1},
        "cost": None,
        "durations": {
            "started": T,
            "ended": T + 60,
            "seconds": 60.0,
            "call_seconds": 2.03,  # of calls: what came by a batch has none
            "latency_ms": {"mean": 1015.0, "p50": 30, "p90": 2000, "p99": 2000, "max": 2000},
        },
        "attempts": {"total": 6, "failed": 2, "retries": 1, "classes": {"server": 1, "rate_limit": 1}},
        "errors": {"too_large": 1},
        "backend": "online",
        "paths": {"online": 2, "batch": 1},
        "batches": None,
        "taken_back": 0,
        "extras": 0,
        "quarantined": 0,
        "torn": 0,
        "chunks": [
            {"chunk": 1, "first_line": 1, "lines": 4, "input": 3, "output": 2, "error": 1, "missing": 0,
             "pending": 0, "blank": 1, "retries": 1},
            {"chunk": 2, "first_line": 5, "lines": 1, "input": 1, "output": 1, "error": 0, "missing": 0,
             "pending": 0, "blank": 0, "retries": 0},
        ],
    }  # fmt: skip
    assert sum(line.lstrip().startswith(b'{"chunk"') for line in raw.splitlines()) == 2  # a chunk a line
    assert not (task.merged.path / ".stage-1" / "chunks.part").exists()


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=300), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_percentiles_are_right_within_a_thirtysecond(values, share):
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    exact = sorted(values)[max(0, -int(-share * len(values) // 1) - 1)]
    assert exact <= latencies.percentile(share) <= exact * (1 + 1 / 32)
    assert latencies.to_json()["max"] == max(values)


def test_percentiles_of_nothing_and_of_nonsense():
    latencies = Latencies()
    assert latencies.to_json() == {"mean": None, "p50": None, "p90": None, "p99": None, "max": None}
    latencies.add(-5)
    latencies.add(1 << 60)
    assert latencies.percentile(0.5) == 0
    assert latencies.percentile(1) <= 1 << 60


def test_progress_and_stop(task):
    task.simple(12)
    seen = []
    task.merge(progress=seen.append)
    assert seen == [1, 2, 3, 4]
    stop = threading.Event()
    seen.clear()

    def progress(done):
        seen.append(done)
        if done == 2:
            stop.set()

    with pytest.raises(MergeStopped):
        task.merge(progress=progress, stop=stop)
    assert seen == [1, 2]
    assert task.merge().identity  # what was staged is no obstacle


def test_many_journals_need_few_descriptors(task):
    import resource

    task.chunk(b"{}\n" * 300)
    for n in range(1, 301):
        task.journal(1, f"{n:x}", answer(n))
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 50, old[1]))
    try:
        assert task.merge().identity
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, old)
    assert task.ids("output.jsonl") == [str(n) for n in range(1, 301)]


@pytest.mark.parametrize("operation", ["write", "sync", "open"])
@pytest.mark.parametrize("name", ["output.jsonl", "missing_records.jsonl", "report.json", "chunks.part"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_sick_disk_is_told_and_nothing_is_published(task, monkeypatch, operation, name, number):
    task.simple(5)
    monkeypatch.setenv("BATCH_INFER_FS_FAULTS", f"{operation}:{name}={number}")
    with pytest.raises(OSError, match="planned") as caught:
        task.merge()
    assert caught.value.errno == number
    assert task.merged.listdir() == []  # a full disk is not kept full
    monkeypatch.delenv("BATCH_INFER_FS_FAULTS")
    assert task.merge().identity


def test_a_journal_that_shrinks_under_it_is_an_error(task, monkeypatch):
    task.simple(2)
    path = task.directory.path / journal_name(1, "aa")
    from batch_inferd.merge.index import Terminals

    read = Terminals.read

    def shrink(self, journals):
        read(self, journals)
        path.write_bytes(b"")

    monkeypatch.setattr(Terminals, "read", shrink)
    with pytest.raises(OSError, match="shorter"):
        task.merge()


MEASURE = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from journal_kit import Task, answer, missing
task = Task(Path({root!r}))
size = 100 * 1024 * 1024
chunk = task.chunk(b"{{}}\\n" + b"{{}}\\n")
journal = task.directory.path / "0000/chunk_0000001.aa.jsonl"
import subprocess
# The long lines are made by another process, so that this one's peak is merge's own.
subprocess.run([sys.executable, "-c", '''
import sys
sys.path.insert(0, {here!r})
from journal_kit import answer, missing
from pathlib import Path
long = b"x" * (100 * 1024 * 1024)
Path(sys.argv[1]).write_bytes(answer(1, body=b'"' + long + b'"') + missing(2))
Path(sys.argv[2]).write_bytes(b'{{}}\\\\n{{"a":"' + long + b'"}}\\\\n')
''', str(journal), str(task.directory.path / "0000/chunk_0000001.jsonl")], check=True)
task.rows[0] = task.rows[0]._replace(bytes=(task.directory.path / "0000/chunk_0000001.jsonl").stat().st_size)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
result = task.merge()
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert result.identity, result.problems
assert result.files["output.jsonl"]["bytes"] > size
assert result.files["missing_records.jsonl"]["bytes"] > size
print(after - before)
"""


def test_lines_of_100_mb_are_never_held(tmp_path):
    from pathlib import Path

    code = MEASURE.format(here=str(Path(__file__).parent), root=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 24 * 1024  # KiB
