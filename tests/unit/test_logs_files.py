"""The files below the logs: rotated, written by a thread of their own, and full disks survived."""

import os
import threading
import time

import pytest

from batch_infer.protocol.errors import ConfigError
from batch_inferd.logs import rotation
from batch_inferd.logs.folder import log_folder
from batch_inferd.logs.rotation import RotatingFile
from batch_inferd.logs.writer import LogWriter


@pytest.fixture
def writer():
    made = LogWriter()
    yield made
    made.close()


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "logs"
    path.mkdir()
    return path


class TestRotation:
    def test_it_keeps_so_many_of_such_a_size(self, tmp_path):
        file = RotatingFile(tmp_path / "x.log", max_bytes=100, backups=2)
        for n in range(50):
            file.write(f"line {n:04}\n".encode())
        file.close()
        assert sorted(path.name for path in tmp_path.glob("x.log*")) == ["x.log", "x.log.1", "x.log.2"]
        texts = [(tmp_path / name).read_text() for name in ("x.log.2", "x.log.1", "x.log")]
        assert all(len(text) <= 100 for text in texts)
        assert "".join(texts).split("\n")[:-1] == [f"line {n:04}" for n in range(20, 50)]

    def test_without_backups_it_begins_anew(self, tmp_path):
        file = RotatingFile(tmp_path / "x.log", max_bytes=10, backups=0)
        file.write(b"first one\n")
        file.write(b"second\n")
        file.close()
        assert [path.read_text() for path in tmp_path.glob("x.log*")] == ["second\n"]

    def test_a_single_large_write_is_not_split(self, tmp_path):
        file = RotatingFile(tmp_path / "x.log", max_bytes=10, backups=1)
        file.write(b"x" * 50)
        file.close()
        assert (tmp_path / "x.log").stat().st_size == 50

    def test_it_appends_to_what_is_there(self, tmp_path):
        for text in (b"a", b"b"):
            file = RotatingFile(tmp_path / "x.log")
            file.write(text)
            file.close()
        assert (tmp_path / "x.log").read_bytes() == b"ab"

    def test_a_removed_file_is_made_again(self, tmp_path, monkeypatch):
        monkeypatch.setattr(rotation, "_LOOK_EVERY_S", 0.0)
        file = RotatingFile(tmp_path / "x.log")
        file.write(b"a")
        (tmp_path / "x.log").unlink()
        file.write(b"b")
        (tmp_path / "x.log").rename(tmp_path / "moved")
        file.write(b"c")
        file.close()
        assert (tmp_path / "x.log").read_bytes() == b"c"
        assert (tmp_path / "moved").read_bytes() == b"b"

    def test_a_symbolic_link_is_not_followed(self, tmp_path):
        (tmp_path / "precious").write_text("p")
        (tmp_path / "x.log").symlink_to(tmp_path / "precious")
        with pytest.raises(OSError, match="symbolic"):
            RotatingFile(tmp_path / "x.log").write(b"a")
        assert (tmp_path / "precious").read_text() == "p"


class Disk:
    """In a RotatingFile's place: full, or stalled, as the test likes."""

    remark = str

    def __init__(self):
        self.full = False
        self.go_on = threading.Event()
        self.go_on.set()
        self.reached = threading.Event()
        self.data = b""

    def write(self, data):
        self.reached.set()
        assert self.go_on.wait(20)
        if self.full:
            raise OSError(28, "No space left on device")
        self.data += data

    def close(self):
        pass


class TestTheWriter:
    def test_a_full_disk_loses_lines_and_nothing_else(self, writer, monkeypatch):
        monkeypatch.setattr("batch_inferd.logs.writer._RETRY_S", 0.0)
        disk, other = Disk(), Disk()
        for n in range(5):
            disk.full = n in (1, 2)
            writer.write(disk, f"line {n}")
            writer.write(other, f"line {n}")
            assert writer.flush(5)
        assert disk.data.decode().splitlines() == [
            "line 0",
            "(2 lines were lost here: [Errno 28] No space left on device)",
            "line 3",
            "line 4",
        ]
        assert len(other.data.splitlines()) == 5

    def test_a_full_disk_is_not_tried_all_the_time(self, writer):
        disk = Disk()
        disk.full = True
        writer.write(disk, "first")
        assert writer.flush(5)
        disk.full = False
        writer.write(disk, "at once")
        assert writer.flush(5)
        assert disk.data == b""

    def test_a_stalled_disk_stops_nobody_and_costs_bounded_memory(self):
        writer = LogWriter(cap=10_000)
        disk = Disk()
        disk.go_on.clear()
        writer.write(disk, "first")
        assert disk.reached.wait(5)
        began = time.monotonic()
        for _ in range(5000):
            writer.write(disk, "x" * 100)
        assert time.monotonic() - began < 2
        assert not writer.flush(0.01)
        assert writer._size <= 10_000
        disk.go_on.set()
        assert writer.flush(5)
        writer.write(disk, "last")
        writer.close()
        lines = disk.data.decode().splitlines()
        assert lines[-1] == "last"
        (loss,) = [line for line in lines if "lost" in line]
        assert (
            loss
            == f"({5000 - sum('x' in line for line in lines)} lines were lost here: too many lines at once)"
        )

    def test_closing_writes_what_is_queued(self):
        writer, disk = LogWriter(), Disk()
        for n in range(100):
            writer.write(disk, str(n))
        writer.close()
        assert len(disk.data.splitlines()) == 100
        writer.write(disk, "too late")
        writer.close()
        assert len(disk.data.splitlines()) == 100

    def test_odd_text_is_written_somehow(self, writer):
        disk = Disk()
        writer.write(disk, "lone \ud800 surrogate")
        assert writer.flush(5)
        assert disk.data == b"lone \\ud800 surrogate\n"


class TestFolder:
    def test_it_is_made_for_the_owner_and_counts_from_the_base(self, tmp_path):
        path = tmp_path / "a" / "日志"
        assert log_folder("a/x/../日志", str(tmp_path)) == str(path)
        assert path.stat().st_mode & 0o777 == 0o700
        assert log_folder(str(path), "/elsewhere") == str(path)

    def test_what_is_no_folder_is_refused(self, tmp_path):
        (tmp_path / "file").touch()
        for name in ("file", "file/in"):
            with pytest.raises(ConfigError, match="logs cannot be written to"):
                log_folder(name, str(tmp_path))

    def test_what_cannot_be_written_to_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
        with pytest.raises(ConfigError, match="Permission denied"):
            log_folder("x", str(tmp_path))
