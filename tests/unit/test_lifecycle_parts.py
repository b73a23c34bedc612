"""The small parts of the daemon's life: readiness, limits, the file system, the choice of the idle limit."""

import json
import os
import resource
from typing import NamedTuple

import pytest

from batch_infer.protocol.errors import ConfigError
from batch_infer.protocol.text import Text
from batch_inferd.lifecycle import filesystem, idle, limits
from batch_inferd.lifecycle.readiness import Readiness


class Mount(NamedTuple):
    mountpoint: str
    fstype: str


class TestReadiness:
    @pytest.fixture
    def pipe(self):
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as file:
            yield file, writing

    def test_ready_is_one_line_and_the_end(self, pipe):
        reader, writing = pipe
        readiness = Readiness(writing)
        assert readiness.has_starter
        readiness.ready()
        assert reader.read() == b"ready\n"
        readiness.failed(ConfigError(Text("too late")))
        assert not readiness.has_starter

    def test_an_error_is_told_with_all_it_has(self, pipe):
        reader, writing = pipe
        Readiness(writing).failed(ConfigError(Text("bad {x}", {"x": 1})))
        assert json.loads(reader.read())["data"]["text"] == {"msgid": "bad {x}", "params": {"x": 1}}

    def test_a_client_that_gave_up_is_no_problem(self):
        reading, writing = os.pipe()
        readiness = Readiness(writing)
        os.close(reading)
        readiness.ready()

    def test_children_do_not_get_it(self, pipe):
        _, writing = pipe
        os.set_inheritable(writing, True)
        readiness = Readiness(writing)
        assert not os.get_inheritable(readiness._fd)
        readiness.ready()

    def test_the_start_lock_goes_with_it(self, pipe):
        class Lock:
            released = 0

            def release(self):
                self.released += 1

        for fd in (None, pipe[1]):
            lock, readiness = Lock(), Readiness(fd)
            readiness.hold(lock)
            readiness.ready()
            readiness.failed(ConfigError(Text("x")))
            assert lock.released == 1


class TestOpenFiles:
    @pytest.mark.parametrize(
        ("soft", "hard", "then"),
        [
            (256, 4096, 4096),
            (256, 10**6, 65_536),
            (4096, 4096, 4096),
            (100_000, 200_000, 100_000),
            (256, resource.RLIM_INFINITY, 65_536),
            (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 65_536),
        ],
    )
    def test_the_soft_limit_goes_up_to_the_hard_one_and_never_down(self, monkeypatch, soft, hard, then):
        done = []
        monkeypatch.setattr(resource, "getrlimit", lambda what: (soft, hard))
        monkeypatch.setattr(resource, "setrlimit", lambda what, pair: done.append(pair))
        assert limits.raise_open_files() == then
        assert all(pair == (then, hard) for pair in done)
        assert bool(done) == (0 <= soft < then)

    def test_where_it_cannot_be_raised_it_is_as_before(self, monkeypatch, caplog):
        def refuse(what, pair):
            raise ValueError("current limit exceeds maximum limit")

        monkeypatch.setattr(resource, "getrlimit", lambda what: (256, 4096))
        monkeypatch.setattr(resource, "setrlimit", refuse)
        assert limits.raise_open_files() == 256
        assert "cannot be raised" in caplog.text


class TestTheFileSystem:
    @pytest.fixture
    def mounts(self, monkeypatch):
        def mount(*pairs):
            found = [Mount(*pair) for pair in pairs]
            monkeypatch.setattr(filesystem.psutil, "disk_partitions", lambda **_: found)

        return mount

    @pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "fuse.sshfs", "9p", "lustre", "NFS"])
    def test_a_network_file_system_is_warned_about(self, mounts, tmp_path, kind):
        mounts(("/", "ext4"), (str(tmp_path.parent), kind))
        warning = filesystem.network_warning(tmp_path)
        assert warning is not None
        assert str(tmp_path) in str(warning)
        assert kind.lower().removeprefix("fuse.") in str(warning)

    def test_the_innermost_mount_counts_and_of_two_the_later(self, mounts, tmp_path):
        mounts(("/", "nfs"), (str(tmp_path.parent), "nfs"), (str(tmp_path), "nfs"), (str(tmp_path), "xfs"))
        assert filesystem.file_system(tmp_path) == "xfs"
        assert filesystem.network_warning(tmp_path) is None

    def test_a_neighbour_of_a_similar_name_does_not_count(self, mounts, tmp_path):
        mounts(("/", "ext4"), (str(tmp_path)[:-1], "nfs"))
        assert filesystem.network_warning(tmp_path) is None

    def test_what_cannot_be_told_is_not_warned_about(self, monkeypatch, tmp_path):
        def fail(all):
            raise PermissionError

        monkeypatch.setattr(filesystem.psutil, "disk_partitions", fail)
        assert filesystem.network_warning(tmp_path) is None

    def test_this_machines_disk_has_a_type(self, tmp_path):
        assert filesystem.file_system(tmp_path)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("90", 90.0), ("0.5", 0.5), ("", None), ("0", None), ("-1", None), ("soon", None), ("nan", None)],
)
def test_the_idle_limit_of_the_environment(monkeypatch, value, seconds):
    monkeypatch.setenv("BATCH_INFER_IDLE_EXIT_S", value)
    assert idle.limit_from_environment() == seconds
