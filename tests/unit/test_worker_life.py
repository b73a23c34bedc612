"""A worker's life: its lock, its pipe, its end, and what it leaves behind when it is killed."""

from __future__ import annotations

import os
import random
import signal
import sys
import time

import psutil
import pytest
from filelock import FileLock, Timeout
from worker_kit import BOUND_S, WorkerDriver, ask, make_plan
from worker_life_kit import assert_paid_once, recorded, until, wait_requests

from batch_infer.version import __version__
from batch_inferd.backends.plan import Retry
from batch_inferd.journal.names import chunk_folder, list_journals
from batch_inferd.seams.failpoint import EXIT_STATUS
from batch_inferd.testing.process import start_service


def test_hello_comes_with_the_lock_held(tmp_path):
    with WorkerDriver(tmp_path) as worker:
        hello = worker.wait_for("hello")
        assert hello == {
            "pid": worker.process.pid,
            "started": psutil.Process(worker.process.pid).create_time(),
            "version": __version__,
        }
        with pytest.raises(Timeout):
            FileLock(worker.lock, timeout=0).acquire()
        second = WorkerDriver(tmp_path)
        with second:
            assert second.wait_end() == 3
            assert second.messages == []
        worker.close_pipe()
        assert worker.wait_end() == 0
    assert worker.lock.exists()
    FileLock(worker.lock, timeout=5, preserve_lock_file=True).acquire().lock.release()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_pipe_is_out_of_reach_and_the_file_limit_raised(tmp_path):
    with WorkerDriver(tmp_path) as worker:
        worker.wait_for("hello")
        fds = f"/proc/{worker.process.pid}/fd"
        assert os.readlink(f"{fds}/0") == os.devnull
        assert os.readlink(f"{fds}/1") == os.readlink(f"{fds}/2") == str(worker.stderr)
        soft, hard = psutil.Process(worker.process.pid).rlimit(psutil.RLIMIT_NOFILE)
        assert soft == min(hard, 65536)


def test_a_shutdown_without_leases_ends_it(tmp_path):
    with WorkerDriver(tmp_path) as worker:
        worker.send("shutdown", mode="drain")
        assert worker.wait_end() == 0


def test_nonsense_from_the_daemon_is_logged_and_survived(tmp_path, service, folder):
    with WorkerDriver(tmp_path) as worker:
        worker.send("lease", nonsense=1)
        worker.send("account", account="acc-1")
        worker.send("dance")
        worker.send("end_lease", lease="nobody", mode="drain")
        folder.add([ask("x")])
        worker.begin(make_plan(service.base_url), folder.lease())
        worker.sealed()
        assert "cannot be read" in worker.stderr.read_text()
        assert "unknown kind: dance" in worker.stderr.read_text()


def test_the_pipes_end_is_the_end_and_nothing_is_written_after_it(tmp_path, folder):
    with (
        start_service(tmp_path / "s", {"latency_ms": [50, 200]}) as service,
        WorkerDriver(tmp_path) as worker,
    ):
        folder.add(ask(f"q{n}") for n in range(400))
        worker.begin(make_plan(service.base_url), folder.lease(), slots=50)
        wait_requests(service, 100)
        worker.close_pipe()
        began = time.monotonic()
        assert worker.process.wait(10) == 0
        assert time.monotonic() - began < 5
        written = recorded(folder)
        assert written < 400
    assert recorded(folder) == written


def test_the_pipes_end_is_noticed_while_the_loop_is_busy(tmp_path, service, folder):
    with WorkerDriver(tmp_path, BATCH_INFER_FAILPOINTS="call.answered=stall:100") as worker:
        folder.add([ask("x")])
        worker.begin(make_plan(service.base_url), folder.lease())
        wait_requests(service, 1)
        worker.close_pipe()
        assert worker.process.wait(20) == 0
    assert folder.kinds() == {}


def test_a_broken_frame_ends_it(tmp_path):
    with WorkerDriver(tmp_path) as worker:
        worker.wait_for("hello")
        worker.process.stdin.write(b"\xff\xff\xff\xff")
        worker.process.stdin.flush()
        assert worker.wait_end() == 0


def test_sigterm_drains_and_sigint_is_ignored(tmp_path, folder):
    with start_service(tmp_path / "s", {"latency_ms": 150}) as service, WorkerDriver(tmp_path) as worker:
        folder.add(ask(f"q{n}") for n in range(100))
        worker.begin(make_plan(service.base_url), folder.lease(), slots=10)
        wait_requests(service, 10)
        worker.process.send_signal(signal.SIGINT)
        worker.process.send_signal(signal.SIGTERM)
        released = worker.wait_for("released")
        assert worker.wait_end() == 0
        assert released["reason"] == "drained"
        assert released["counts"]["in_flight"] == 0
        sent = service.summary()
    assert released["counts"]["answered"] == sent.requests == sent.delivered == recorded(folder)


@pytest.mark.skipif(os.name == "nt", reason="it has no such signal")
def test_a_crash_of_the_interpreter_leaves_a_trace(tmp_path):
    with WorkerDriver(tmp_path) as worker:
        worker.wait_for("hello")
        worker.process.send_signal(signal.SIGSEGV)
        assert worker.process.wait(BOUND_S) == -signal.SIGSEGV
        assert "Segmentation fault" in worker.stderr.read_text()


def test_a_worker_that_ends_unasked_says_so_before_it_gives_anything_back(tmp_path, folder):
    with start_service(tmp_path / "s", {"latency_ms": 150}) as service, WorkerDriver(tmp_path) as worker:
        folder.add(ask(f"q{n}") for n in range(100))
        worker.begin(make_plan(service.base_url), folder.lease(), slots=10)
        wait_requests(service, 10)
        worker.process.send_signal(signal.SIGTERM)
        assert worker.wait_for("stopping") == {}
        assert worker.all("released") == []
        late = worker.lease(folder.lease())  # granted before the daemon could know
        worker.process.send_signal(signal.SIGTERM)
        worker.send("shutdown", mode="drain")
        assert worker.wait_end() == 0
        assert len(worker.all("released")) == 2
        assert late in {released["lease"] for released in worker.all("released")}
        assert len(worker.all("stopping")) == 1


def test_a_worker_that_was_asked_to_end_only_ends(tmp_path, service, folder):
    with WorkerDriver(tmp_path) as worker:
        folder.add([ask("x")])
        worker.begin(make_plan(service.base_url), folder.lease())
        worker.sealed()
        worker.send("shutdown", mode="drain")
        assert worker.wait_end() == 0
        assert worker.all("stopping") == []


def test_a_drained_lease_records_what_was_in_flight(tmp_path, folder):
    with start_service(tmp_path / "s", {"latency_ms": 150}) as service, WorkerDriver(tmp_path) as worker:
        folder.add(ask(f"q{n}") for n in range(100))
        lease = worker.begin(make_plan(service.base_url), folder.lease(), slots=10)
        wait_requests(service, 10)
        worker.send("end_lease", lease=lease, mode="drain")
        released = worker.wait_for("released")
        answered = released["counts"]["answered"]
        assert (released["lease"], released["reason"]) == (lease, "drained")
        assert answered == service.summary().requests == recorded(folder)
        assert released["counts"]["unstarted"] == 100 - answered
        again = worker.lease(folder.lease())  # the worker lives on
        assert worker.sealed()["lease"] == again
        assert_paid_once(service, folder)


def test_an_aborted_lease_gives_up_what_is_in_flight(tmp_path, folder):
    rules = [{"contains": "stuck", "do": "hang"}]
    with start_service(tmp_path / "s", {"rules": rules}) as service, WorkerDriver(tmp_path) as worker:
        folder.add([ask("fine"), *(ask(f"stuck {n}") for n in range(5))])
        lease = worker.begin(make_plan(service.base_url), folder.lease(), slots=10)
        wait_requests(service, 6)
        until(lambda: recorded(folder) == 1, "the one answer")
        worker.send("end_lease", lease=lease, mode="drain")
        worker.send("end_lease", lease=lease, mode="abort")
        released = worker.wait_for("released")
        assert (released["reason"], released["counts"]["answered"]) == ("aborted", 1)
        attempts = [entry for entry in folder.entries() if entry["k"] == "attempt"]
        assert [(entry["class"], entry["charged"]) for entry in attempts] == [("cancelled", False)] * 5
        service.control(rules=[])
        worker.lease(folder.lease())
        counts = worker.sealed()["counts"]
        assert (counts["answered"], counts["retries"]) == (6, 0)
        assert folder.records("answer")[2]["attempt"] == 2


def test_an_abort_ends_waiting_retries_at_once(tmp_path, service, folder):
    service.control(error_rate=1.0)
    with WorkerDriver(tmp_path) as worker:
        folder.add(ask(f"q{n}") for n in range(5))
        lease = worker.begin(make_plan(service.base_url, retry=Retry(3, 1000.0, 1000.0)), folder.lease())
        worker.wait_for("report", lambda p: any(c["waiting"] == 5 for c in p["leases"].values()))
        worker.send("end_lease", lease=lease, mode="abort")
        assert worker.wait_for("released")["counts"]["waiting"] == 5


def test_a_lease_that_is_ended_before_it_is_open(tmp_path, service, folder):
    folder.add(ask(f"q{n}") for n in range(50))
    with WorkerDriver(tmp_path) as worker:
        worker.plan(make_plan(service.base_url))
        lease = worker.lease(folder.lease())
        worker.send("end_lease", lease=lease, mode="drain")
        assert worker.wait_for("released")["reason"] == "drained"
        assert worker.lease(folder.lease(version=1))
        worker.account()
        worker.sealed()


def test_a_lease_without_a_plan_is_given_back(tmp_path, folder):
    folder.add([ask("x")])
    with WorkerDriver(tmp_path) as worker:
        lease = worker.lease(folder.lease())
        assert worker.wait_for("released") == {"lease": lease, "counts": None, "reason": "no_plan"}


def test_a_killed_worker_never_resends_a_recorded_answer(tmp_path, folder):
    seed = int(os.environ.get("BATCH_INFER_TEST_SEED", random.randrange(1 << 30)))
    print(f"seed {seed}: BATCH_INFER_TEST_SEED={seed} repeats it")
    chance = random.Random(seed)
    total, kills = 400, 0
    folder.add(ask(f"question {n}") for n in range(total))
    controls = {"latency_ms": [1, 40], "error_rate": 0.05, "rate_429": 0.02, "drop_rate": 0.02, "seed": seed}
    with start_service(tmp_path / "s", controls) as service:
        plan = make_plan(service.base_url, retry=Retry(max_count=50, base_s=0.01, cap_s=0.05))
        while True:
            with WorkerDriver(tmp_path, f"w{kills}") as worker:
                worker.begin(plan, folder.lease(), slots=16)
                before = recorded(folder)
                if kills < 8:
                    goal = before + chance.randrange(1, 40)
                    until(lambda goal=goal: recorded(folder) >= goal, "progress")
                    time.sleep(chance.random() / 50)
                    worker.kill()
                    kills += 1
                    continue
                counts = worker.sealed()["counts"]
                break
        assert recorded(folder) == counts["answered"] == total
        assert before < total
        assert len(list_journals(folder.directory, chunk_folder(1))[1]) == kills + 1
        assert_paid_once(service, folder)
        entries = folder.entries()
        assert counts["retries"] == sum(entry["k"] == "attempt" and entry["charged"] for entry in entries)
        assert counts["tokens_in"] == sum(entry.get("in") or 0 for entry in entries)


def test_a_kill_does_not_reset_retries(tmp_path, service, folder):
    service.control(rules=[{"contains": "poison", "do": "500"}])
    folder.add([ask("poison")])
    for round_of_kills in range(3):
        with WorkerDriver(tmp_path, f"w{round_of_kills}") as worker:
            worker.begin(make_plan(service.base_url, retry=Retry(3, 0.001, 0.001)), folder.lease())
            until(lambda n=round_of_kills: folder.kinds().get("attempt", 0) > n, "an attempt")
            worker.kill()
    with WorkerDriver(tmp_path) as worker:
        worker.begin(make_plan(service.base_url), folder.lease())
        counts = worker.sealed()["counts"]
    errors = folder.records("error")
    assert (counts["error"], counts["retries"]) == (1, 3)
    numbers = [entry["attempt"] for entry in folder.entries() if entry["k"] == "attempt"]
    assert len(numbers) == 3
    assert errors[1]["attempt"] == max(numbers) + 1
    assert service.summary().requests >= 4


def test_a_recovered_retry_waits_for_its_time(tmp_path, service, folder):
    service.control(rules=[{"contains": "late", "do": "500", "times": 1}])
    folder.add([ask("late"), ask("other")])
    slow = Retry(max_count=3, base_s=10_000.0, cap_s=10_000.0)
    with WorkerDriver(tmp_path) as worker:
        worker.begin(make_plan(service.base_url, retry=slow), folder.lease())
        until(lambda: folder.kinds() == {"attempt": 1, "answer": 1}, "a failed attempt and an answer")
        worker.kill()
    clock = tmp_path / "clock"
    clock.write_text("0")
    with WorkerDriver(tmp_path, "again", BATCH_INFER_CLOCK_FILE=str(clock)) as worker:
        worker.begin(make_plan(service.base_url, retry=slow), folder.lease())
        worker.wait_for("report", lambda p: any(c["waiting"] == 1 for c in p["leases"].values()))
        assert service.summary().requests == 2
        clock.write_text("3600")  # a clock that jumps never makes it wait for more than an hour
        assert worker.sealed()["counts"]["answered"] == 2


def test_the_next_round_runs_the_errors_again_and_not_the_answers(tmp_path, service, folder):
    service.control(rules=[{"contains": "poison", "do": "400", "times": 1}])
    folder.add([ask("poison"), ask("fine"), b"not json"])
    with WorkerDriver(tmp_path) as worker:
        worker.begin(make_plan(service.base_url), folder.lease())
        counts = worker.sealed()["counts"]
        assert (counts["answered"], counts["error"]) == (1, 2)
        worker.lease(folder.lease(round=1))
        counts = worker.sealed()["counts"]
    assert (counts["answered"], counts["error"]) == (2, 1)
    assert service.summary().requests == 3


@pytest.mark.parametrize(
    ("point", "left"),
    [
        ("call.sent", 0),
        ("call.answered", 0),
        ("journal.before_write", 0),
        ("journal.written", 1),
        ("seal.synced", 1),
    ],
)
def test_an_exit_at_each_failpoint_is_recovered(tmp_path, service, folder, point, left):
    folder.add([ask("x")])
    with WorkerDriver(tmp_path, BATCH_INFER_FAILPOINTS=f"{point}=exit") as worker:
        worker.begin(make_plan(service.base_url), folder.lease())
        assert worker.wait_end() == EXIT_STATUS
    assert recorded(folder) == left
    with WorkerDriver(tmp_path, "again") as worker:
        worker.begin(make_plan(service.base_url), folder.lease())
        assert worker.sealed()["counts"]["answered"] == 1
    assert service.summary().requests == 2 - left
    assert_paid_once(service, folder)


def test_many_leases_at_once(tmp_path, service, folder):
    for chunk in range(40):
        folder.add(ask(f"chunk {chunk} line {n}") for n in range(10))
    with WorkerDriver(tmp_path) as worker:
        worker.plan(make_plan(service.base_url))
        worker.account(slots=32)
        leases = {worker.lease(folder.lease(chunk)) for chunk in range(1, 41)}
        assert {worker.sealed()["lease"] for _ in leases} == leases
        process = psutil.Process(worker.process.pid)
        until(lambda: not [f for f in process.open_files() if "chunk_" in f.path], "the files given back")
    assert sorted(line for chunk in range(1, 41) for line in folder.records("answer", chunk)) == list(
        range(1, 401)
    )
