"""The beacon: written whole and private, read with suspicion."""

import json
import os
import socket
import stat
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch_infer.protocol import beacon, process

BEACON = beacon.Beacon(
    pid=4711,
    process_started="ticks:12",
    hostname="box",
    boot_id="b",
    protocol=(1, 2),
    version="0.1.0",
    endpoint="unix:/run/x.sock",
    secret="ab" * 32,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".daemon.json"


def test_what_was_written_is_read(path):
    beacon.write(path, BEACON)
    assert beacon.read(path) == BEACON
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.glob(".daemon*")] == [".daemon.json"]


def test_a_new_one_replaces_the_old_one_in_one_step(path, monkeypatch):
    beacon.write(path, BEACON)
    replaced = []
    real = os.replace

    def replace(source, target):
        # At this moment the old one is whole, and so is the new one.
        replaced.append((beacon.read(path), beacon.read(source)))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    stopping = BEACON._replace(stopping=True)
    beacon.write(path, stopping)
    assert replaced == [(BEACON, stopping)]
    assert beacon.read(path) == stopping


def test_a_write_that_fails_leaves_the_old_one(path, monkeypatch):
    beacon.write(path, BEACON)

    def replace(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="No space"):
        beacon.write(path, BEACON._replace(pid=1))
    assert beacon.read(path) == BEACON
    assert [p.name for p in path.parent.glob(".daemon*")] == [".daemon.json"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff" * 100,
        b"[" * 10_000,
        b" " * (beacon.SIZE_CAP + 1),
        json.dumps({"pid": 1}).encode(),
        json.dumps(BEACON._asdict() | {"pid": "1"}).encode(),
        json.dumps(BEACON._asdict() | {"protocol": [1]}).encode(),
        json.dumps(BEACON._asdict() | {"protocol": ["1", "2"]}).encode(),
        json.dumps(BEACON._asdict() | {"secret": None}).encode(),
    ],
    ids=lambda data: data[:12],
)
def test_a_bad_one_counts_as_none(path, data):
    path.write_bytes(data)
    assert beacon.read(path) is None


@given(data=st.binary(max_size=300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_beacon_or_none(path, data):
    path.write_bytes(data)
    assert beacon.read(path) is None


def test_unknown_fields_are_no_problem(path):
    path.write_text(json.dumps({**BEACON._asdict(), "schema": 9, "later": [1]}))
    assert beacon.read(path) == BEACON


def test_what_is_no_plain_file_counts_as_none(path, tmp_path):
    assert beacon.read(path) is None
    os.mkfifo(path)  # would block a plain open
    assert beacon.read(path) is None
    path.unlink()
    real = tmp_path / "real.json"
    beacon.write(real, BEACON)
    path.symlink_to(real)
    assert beacon.read(path) is None


def test_only_its_own_daemon_removes_it(path):
    beacon.write(path, BEACON)
    beacon.remove(path, "another secret")
    assert beacon.read(path) == BEACON
    beacon.remove(path, BEACON.secret)
    assert not path.exists()
    beacon.remove(path, BEACON.secret)


def test_the_secret_is_not_shown():
    assert BEACON.secret not in repr(BEACON) + str([BEACON])


class TestLivingPid:
    def mine(self):
        return beacon.of_this_process("unix:/x", "s", (1, 1), "0")

    def test_this_process_lives(self):
        assert beacon.living_pid(self.mine()) == os.getpid()

    def test_none_has_none(self):
        assert beacon.living_pid(None) is None

    @pytest.mark.parametrize(
        "change",
        [
            {"pid": 1},  # lives, but started at another time
            {"pid": 0},
            {"pid": -1},
            {"pid": 2**40},
            {"process_started": ""},
            {"process_started": "ticks:1"},
            {"hostname": "elsewhere"},
            {"boot_id": "an earlier boot"},
        ],
        ids=str,
    )
    def test_a_forged_one_has_none(self, change):
        assert beacon.living_pid(self.mine()._replace(**change)) is None

    def test_a_dead_process_has_none_even_unreaped(self):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        token = process.start_token(child.pid)
        assert token
        forged = self.mine()._replace(pid=child.pid, process_started=token)
        assert beacon.living_pid(forged) == child.pid
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
        assert beacon.living_pid(forged) is None
        child.communicate()
        assert beacon.living_pid(forged) is None

    def test_the_hostname_is_ours(self):
        assert self.mine().hostname == socket.gethostname()


def test_the_start_of_a_process_does_not_depend_on_the_wall_clock(monkeypatch):
    before = process.start_token(os.getpid())
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert process.start_token(os.getpid()) == before


def test_a_hidden_proc_is_made_up_for(monkeypatch):
    monkeypatch.setattr(process, "_LINUX", False)
    token = process.start_token(os.getpid())
    assert token is not None
    assert token.startswith("time:")
    assert process.is_running(os.getpid(), token)
    assert process.start_token(2**22 + 1) is None
    process.boot_id.cache_clear()
    try:
        assert process.boot_id().startswith("boot:")
    finally:
        process.boot_id.cache_clear()
