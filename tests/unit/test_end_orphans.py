"""What a starting daemon does to the workers of an earlier one: it ends them, and nobody else."""

import json
import signal
import subprocess
import sys
import threading

import pytest
from filelock import FileLock

from batch_infer.protocol.process import boot_id, start_token
from batch_inferd.scheduling.orphans import end_orphans


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def record(folder, process, **changes):
    data = {"pid": process.pid, "started": start_token(process.pid), "boot": boot_id()} | changes
    (folder / "w.json").write_text(json.dumps(data))


def test_a_stopped_worker_is_killed(tmp_path, sleeper):
    record(tmp_path, sleeper)
    (tmp_path / "w.lock").touch()
    sleeper.send_signal(signal.SIGSTOP)
    assert end_orphans(tmp_path) == 1
    assert sleeper.wait(10) == -signal.SIGKILL
    assert not (tmp_path / "w.lock").exists()
    assert not (tmp_path / "w.json").exists()


@pytest.mark.parametrize(
    "change", [{"started": "ticks:1"}, {"boot": "another"}, {"started": None}, {"pid": "x"}]
)
def test_another_process_of_that_pid_is_spared(tmp_path, sleeper, change):
    record(tmp_path, sleeper, **change)
    assert end_orphans(tmp_path) == 0
    assert sleeper.poll() is None


def test_a_worker_of_this_daemon_is_spared(tmp_path, sleeper):
    record(tmp_path, sleeper)
    lock = FileLock(tmp_path / "w.lock")
    with lock:
        assert end_orphans(tmp_path, timeout_s=0.2, ours={"w"}) == 0
        assert sleeper.poll() is None
        assert (tmp_path / "w.json").exists()
        assert (tmp_path / "w.lock").exists()


def test_it_waits_for_a_lock_that_is_held_without_a_record(tmp_path):
    lock = FileLock(tmp_path / "w.lock")
    lock.acquire()
    with pytest.raises(TimeoutError):
        end_orphans(tmp_path, timeout_s=0.2)
    ended = threading.Event()

    def look():
        end_orphans(tmp_path, timeout_s=30)
        ended.set()

    thread = threading.Thread(target=look)
    thread.start()
    assert not ended.wait(0.3)
    lock.release()
    assert ended.wait(30)
    thread.join()
