"""Locks: held by a living process or not at all, waited for with a bound, their files never removed."""

import errno
import subprocess
import sys

import pytest

from batch_infer.protocol import beacon, locks
from batch_infer.protocol.errors import DaemonUnavailable
from batch_infer.protocol.workspace import Workspace
from batch_inferd.lifecycle import lock

HOLDER = """
import sys
from pathlib import Path
from batch_infer.protocol import locks
held = locks.acquire(Path(sys.argv[1]))
print("held" if held else "refused", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder():
    """Start processes that hold the lock at a path; they end with the test."""
    started = []

    def start(path):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_it_is_held_until_it_is_released(tmp_path):
    path = tmp_path / ".lock"
    first = locks.acquire(path)
    assert first is not None
    assert locks.acquire(path) is None
    first.release()
    second = locks.acquire(path)
    assert second is not None
    second.release()
    assert path.exists()
    assert path.stat().st_mode & 0o777 == 0o600


def test_another_process_that_holds_it_is_waited_for_with_a_bound(tmp_path, holder):
    process = holder(tmp_path / ".lock")
    assert locks.acquire(tmp_path / ".lock") is None
    assert locks.acquire(tmp_path / ".lock", timeout=0.05) is None
    process.communicate("")  # it ends, and the kernel gives the lock back
    held = locks.acquire(tmp_path / ".lock", timeout=10)
    assert held is not None
    held.release()


def test_a_killed_holder_leaves_nothing_behind(tmp_path, holder):
    process = holder(tmp_path / ".lock")
    process.kill()
    process.wait()
    held = locks.acquire(tmp_path / ".lock")
    assert held is not None
    held.release()


def test_a_child_does_not_inherit_it(tmp_path):
    held = locks.acquire(tmp_path / ".lock")
    assert held is not None
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False) as child:
        held.release()
        again = locks.acquire(tmp_path / ".lock")
        assert again is not None
        again.release()
        child.communicate(b"\n")


def test_a_removed_or_replaced_file_is_noticed(tmp_path):
    path = tmp_path / ".lock"
    held = locks.acquire(path)
    assert held is not None
    assert held.still_there()
    path.unlink()
    assert not held.still_there()
    path.touch()
    assert not held.still_there()
    held.release()


def test_a_symbolic_link_is_not_followed(tmp_path):
    (tmp_path / "target").write_text("precious")
    (tmp_path / ".lock").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic"):
        locks.acquire(tmp_path / ".lock")
    assert (tmp_path / "target").read_text() == "precious"


def test_a_file_system_without_locks_is_refused(workspace, monkeypatch):
    def flock(fd, operation):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(DaemonUnavailable, match="cannot be locked: Function not implemented") as caught:
        lock.take(Workspace(workspace))
    assert caught.value.hints
    assert caught.value.exit_code == 4


class TestTheDaemonsLock:
    def test_the_second_daemon_hears_who_has_it(self, workspace, holder):
        place = Workspace(workspace)
        process = holder(place.lock)
        beacon.write(
            place.beacon,
            beacon.of_this_process("unix:/x", "s", (1, 1), "0")._replace(
                pid=process.pid, process_started=beacon.start_token(process.pid)
            ),
        )
        with pytest.raises(DaemonUnavailable, match=rf"\(process {process.pid}\) already runs in"):
            lock.take(place)

    def test_a_forged_beacon_names_nobody(self, workspace, holder):
        place = Workspace(workspace)
        holder(place.lock)
        beacon.write(place.beacon, beacon.of_this_process("unix:/x", "s", (1, 1), "0")._replace(pid=1))
        with pytest.raises(DaemonUnavailable, match="which one is unknown"):
            lock.take(place)

    def test_it_is_taken_whatever_a_stale_beacon_says(self, workspace):
        place = Workspace(workspace)
        beacon.write(place.beacon, beacon.of_this_process("unix:/x", "s", (1, 1), "0"))
        lock.take(place).release()

    def test_a_start_that_another_one_makes_is_waited_for(self, workspace, holder, monkeypatch):
        place = Workspace(workspace)
        holder(place.start_lock)
        monkeypatch.setattr(lock, "START_LOCK_TIMEOUT_S", 0.05)
        with pytest.raises(DaemonUnavailable, match="starting or ending"):
            lock.take_start_lock(place)
