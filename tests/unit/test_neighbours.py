"""Daemons that share an account: held locks are the truth."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from contextlib import contextmanager

import pytest
from worker_kit import ManualClock

from batch_inferd.scheduling.account import Account
from batch_inferd.scheduling.limits import Limits
from batch_inferd.scheduling.neighbours import LOOK_S, Membership, Neighbours

_OTHER = """
import pathlib, sys
from batch_inferd.scheduling.neighbours import Membership
member = Membership(pathlib.Path(sys.argv[1]))
print(member.look(), flush=True)
sys.stdin.readline()
member.leave()
"""


@contextmanager
def other_daemon(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", _OTHER, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        process.number = int(process.stdout.readline())
        yield process
    finally:
        process.kill()
        process.wait(30)
        process.stdin.close()
        process.stdout.close()


def test_a_killed_daemon_stops_counting_and_its_file_goes(tmp_path):
    folder = tmp_path / "state" / "accounts" / "abc"
    mine = Membership(folder)
    assert mine.look() == 1
    with other_daemon(folder) as other:
        assert other.number == 2
        assert mine.look() == 2
        other.kill()
        other.wait(30)
        assert len(list(folder.iterdir())) == 2
        assert mine.look() == 1
        assert len(list(folder.iterdir())) == 1
    mine.leave()
    assert list(folder.iterdir()) == []


def test_a_daemon_that_leaves_is_not_counted(tmp_path):
    folder = tmp_path / "accounts" / "abc"
    mine = Membership(folder)
    with other_daemon(folder) as other:
        assert mine.look() == 2
        other.stdin.write("\n")
        other.stdin.flush()
        assert other.wait(30) == 0
        assert mine.look() == 1
    mine.leave()


def test_a_lock_file_that_was_deleted_is_made_again(tmp_path):
    folder = tmp_path / "accounts" / "abc"
    mine = Membership(folder)
    mine.look()
    for path in folder.iterdir():
        path.unlink()
    assert mine.look() == 1
    assert len(list(folder.iterdir())) == 1
    mine.leave()


def test_only_the_owner_may_look_in(tmp_path):
    folder = tmp_path / "state" / "accounts" / "abc"
    mine = Membership(folder)
    mine.look()
    for path in (folder, folder.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    mine.leave()


async def settled(neighbours):
    assert neighbours._task is not None
    await neighbours._task


async def test_only_while_a_task_of_the_account_runs_and_not_at_each_look(tmp_path):
    clock, changes = ManualClock(), []
    neighbours = Neighbours(clock, lambda: changes.append(clock.time), tmp_path)
    folder = tmp_path / "accounts" / "abc"
    neighbours.use({"abc"})
    await settled(neighbours)
    assert neighbours.number("abc") == 1
    with other_daemon(folder) as other:
        assert other.number == 2
        neighbours.use({"abc"})
        await settled(neighbours)
        assert neighbours.number("abc") == 1  # it is not time to look yet
        clock.time += LOOK_S
        neighbours.use({"abc"})
        await settled(neighbours)
        assert neighbours.number("abc") == 2
        neighbours.use(set())
        await settled(neighbours)
        assert neighbours.number("abc") == 1
        assert len(list(folder.iterdir())) == 1  # the other's
    assert len(changes) == 3
    await neighbours.close()


async def test_a_folder_of_somebody_else_is_said_and_costs_nothing_else(tmp_path, caplog):
    (tmp_path / "accounts").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    neighbours = Neighbours(ManualClock(), lambda: None, tmp_path)
    neighbours.use({"abc"})
    await settled(neighbours)
    assert neighbours.number("abc") == 1
    assert "cannot be found" in caplog.text
    assert os.listdir(tmp_path / "elsewhere") == []
    await neighbours.close()


_HUNG = """
import asyncio, sys, threading
from batch_inferd.scheduling import neighbours
from batch_inferd.seams.clock import SystemClock
hung = threading.Event()
async def main():
    import pathlib
    one = neighbours.Neighbours(SystemClock(), lambda: None, pathlib.Path(sys.argv[1]))
    if {method!r} == "leave":
        one.use({{"abc"}})
        await one._task
    neighbours.Membership.{method} = lambda self: hung.wait()
    one.use({{"abc", "def"}})
    await one.close()
asyncio.run(main())
print("over")
"""


@pytest.mark.parametrize("method", ["look", "leave"])
def test_a_disk_that_never_answers_does_not_keep_the_daemon(tmp_path, method):
    done = subprocess.run(
        [sys.executable, "-c", _HUNG.format(method=method), str(tmp_path)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "over\n"), done.stderr


def test_a_disk_without_locks_gets_no_soft_ones(tmp_path, monkeypatch):
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOSYS, "no locks here")

    monkeypatch.setattr("filelock._unix.fcntl.flock", no_locks)
    folder = tmp_path / "accounts" / "abc"
    with pytest.raises(OSError, match="no locks here"):
        Membership(folder).look()
    assert list(folder.iterdir()) == []


def test_explicit_limits_are_divided():
    account = Account("acc")
    limits = Limits(concurrency=64, most=100, rpm=600.0, tpm=9000.0, bytes=1000)
    account.set_limits([limits])
    assert account.rate(0.0) == 10.0
    account.daemons = 3
    account.set_limits([limits])
    assert account.limits == Limits(33, 33, 200.0, 3000.0, 333)
    assert account.rate(0.0) == 200.0 / 60.0
    assert account.window == 33
    account.daemons = 1
    account.set_limits([limits])
    assert account.limits == limits
